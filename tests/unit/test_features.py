"""Every phrase of what authors and contexts can do is proved end to end: on a real server, with real workers.

Each test also runs with workers that drop a run's generator after every command (`make evict`).
"""

from __future__ import annotations

import pytest

from tests.named import defined_in

FEATURES: dict[str, dict[str, str]] = {
    "A01": {
        "@workflow": "test_first_program::test_the_first_program_runs_as_it_is_written",
        "@task": "test_steps::test_a_plain_task_is_a_run_of_one_step",
        "generator handlers": "test_coming_from_postgres_conductor"
        "::test_a_step_is_stored_at_its_first_call_and_a_retried_task_is_given_it",
        "yield, yield from, await: one engine": "test_patch"
        "::test_a_run_goes_on_under_each_spelling_whichever_it_was_begun_under",
        "what is no handler": "test_bad_inputs::test_a_bad_handler_fails_its_own_run",
        "static types under mypy and pyright strict": "typing/test_types"
        "::test_what_the_documentation_shows_has_the_types_that_it_says"
        " typing/test_types::test_a_wrong_call_is_refused_where_it_is_written",
    },
    "A02": {
        "memoised": "test_crashes::test_a_step_whose_worker_was_killed_is_called_again_and_committed_once"
        " test_apps::test_the_cache_changes_no_result",
        "named": "test_coming_from_postgres_conductor"
        "::test_names_that_are_given_are_kept_others_are_numbered_and_no_step_is_repeated"
        " test_coming_from_postgres_conductor::test_a_name_that_is_given_twice_is_refused_before_its_step_is_called",
        "sync and async functions": "test_steps::test_sync_and_async_steps_give_their_results",
        "per-step retry": "test_steps::test_an_exhausted_step_is_thrown_at_the_yield_and_can_be_caught"
        " test_steps::test_errors_are_classified_by_one_rule test_steps::test_a_retry_after_is_honoured"
        " test_crashes::test_a_crash_in_a_backoff_neither_loses_nor_shortens_it",
        "timeout": "test_steps::test_a_timeout_cancels_an_async_step"
        " test_steps::test_a_timeout_signals_a_sync_step_and_refuses_its_late_result",
        "at-most-once": "test_crashes::test_a_call_that_may_be_made_once_is_interrupted_by_a_crash",
        "bad arguments and results": "test_bad_inputs::test_a_bad_step_fails_its_own_run"
        " bad_inputs/test_arguments::test_a_refused_argument_in_a_branch_fails_that_branch_and_calls_nothing",
    },
    "A03": {
        "for and until, months long": "test_facts::test_a_sleep_of_months_is_a_row_and_ends_at_its_time"
        " test_coming_from_postgres_conductor::test_a_sleep_is_for_months_or_until_a_time",
        "releases the worker": "test_coming_from_postgres_conductor"
        "::test_neither_a_sleep_nor_a_child_keeps_the_only_place_of_a_worker"
        " test_fixtures::test_an_advanced_clock_ends_a_sleep_and_no_lease",
        "survives a killed worker": "test_crashes::test_a_sleep_survives_a_crash_and_is_never_moved",
        "what is no time": "bad_inputs/test_construction::test_a_sleep_without_a_length_is_refused"
        " bad_inputs/test_values::test_the_farthest_sleep_stops_no_worker_whatever_the_time_zone_of_the_database",
    },
    "A04": {
        "child run, wait": "test_children::test_a_child_gives_its_result_to_its_parent",
        "timeout": "test_children::test_an_abandoned_child_goes_on_after_its_timeout"
        " test_coming_from_postgres_conductor::test_a_child_that_is_late_fails_its_parent_with_the_timeout",
        "own queue, by name for code elsewhere": "test_children"
        "::test_a_child_runs_on_its_own_queue_by_a_worker_of_that_queue",
        "catchable failure at any depth, 5-level trees": "test_children"
        "::test_an_end_at_depth_five_is_thrown_and_can_be_caught_there"
        " test_children::test_an_uncaught_failure_at_depth_five_fails_every_ancestor",
        "Start and Wait": "test_children::test_a_parent_may_end_before_the_children_that_it_only_started"
        " test_started_children::test_a_wait_that_is_over_cancels_its_child_or_leaves_it_alone"
        " test_started_children::test_only_the_run_that_started_a_child_waits_for_it",
        "detached": "test_children::test_cancelling_a_parent_cancels_its_children_but_detached_ones",
        "a child with an id": "test_children_with_ids::test_parents_that_ask_for_one_id_share_one_run",
        "survives a killed worker": "test_crashes"
        "::test_children_and_transactions_survive_a_killed_worker_exactly_once",
        "a recursion without an end": "bad_inputs/test_children"
        "::test_a_recursion_of_children_without_an_end_fails_at_the_greatest_depth_with_the_chain_of_names",
    },
    "A05": {
        "cursor": "test_coming_from_tasker::test_a_cursor_is_anything"
        " test_checkpoints::test_a_run_whose_worker_is_killed_goes_on_from_a_cursor_of_any_kind",
        "items_processed, accumulated_results": "test_coming_from_tasker"
        "::test_a_batch_that_fails_goes_on_from_what_it_saved",
        "resumes after kill -9": "test_crashes::test_a_checkpoint_is_where_a_killed_worker_is_followed",
        "drain point": "test_coming_from_postgres_conductor"
        "::test_a_loop_that_saves_its_progress_is_handed_over_by_a_worker_that_stops"
        " test_checkpoints"
        "::test_a_tight_loop_of_checkpoints_is_paused_and_cancelled_at_one_and_goes_on_from_its_cursor",
        "bounded history": "test_bounded_history::test_rows_and_bytes_of_a_run_are_constant_over_its_checkpoints"
        " test_bounded_history"
        "::test_what_the_author_named_stays_and_all_else_of_a_long_segment_goes_bit_by_bit",
        "commits before it goes on": "test_coming_from_postgres_conductor"
        "::test_a_checkpoint_is_committed_before_its_handler_goes_on"
        " test_coming_from_tasker::test_a_checkpoint_is_one_row_that_closes_its_segment_in_one_commit",
        "a retry keeps it, from_scratch does not": "test_checkpoints::test_a_run_level_retry_keeps_the_checkpoint"
        " test_checkpoints::test_from_scratch_sets_the_checkpoint_aside",
        "prologue and segment": "test_checkpoints"
        "::test_a_retried_run_goes_on_from_its_cursor_and_repeats_no_prologue"
        " test_bounded_history::test_rows_and_bytes_of_a_run_are_constant_over_its_checkpoints",
        "one that nobody reads": "test_checkpoints::test_a_checkpoint_that_nobody_reads_is_refused_with_the_idiom",
    },
    "A06": {
        "Schedule, Unschedule from handlers": "test_schedules::test_a_run_makes_a_schedule_and_takes_it_away",
        "survive deploys and replays": "test_schedule_deploys"
        "::test_a_dynamic_schedule_outlives_every_start_of_old_and_new_code"
        " test_schedule_deploys::test_no_replay_makes_or_removes_a_schedule_again",
        "survive restarts": "test_schedules::test_a_worker_that_starts_touches_only_the_schedules_of_its_code"
        " test_schedules::test_every_tick_is_one_run_however_many_workers_there_are",
        "payload delivered": "test_coming_from_postgres_conductor"
        "::test_a_schedule_has_its_queue_and_payload_until_it_is_removed",
        "two at once": "test_schedules::test_many_runs_at_once_may_make_the_same_schedule",
    },
    "A07": {
        "user's writes and the memo in one commit": "test_transactions::test_writes_and_outcome_are_there_once"
        " test_crashes::test_children_and_transactions_survive_a_killed_worker_exactly_once",
        "nothing is written by what fails": "test_transactions"
        "::test_a_function_that_raises_writes_nothing_and_is_tried_again"
        " test_transactions::test_a_result_that_cannot_be_stored_takes_the_writes_back",
        "nobody wants it any more": "test_abort_signals"
        "::test_a_transaction_hears_it_too_and_what_it_wrote_is_taken_back",
        "a lost lease": "test_leases::test_a_transaction_of_a_worker_that_lost_its_lease_is_rolled_back",
        "a function that ends it itself": "test_transactions"
        "::test_a_function_that_ends_the_transaction_by_itself_is_refused",
    },
    "A08": {
        "Gather": "test_children::test_a_failed_gather_cancels_the_rest_and_rethrows_the_first"
        " test_children::test_a_gather_can_hand_over_failures",
        "Map(limit)": "test_map::test_as_many_as_the_limit_overlap_and_never_more",
        "Map(on_failure)": "test_branches::test_a_map_ends_with_its_first_failure_or_goes_on_with_the_others",
        "Race": "test_race::test_the_losers_are_cancelled_child_runs_steps_and_waits"
        " test_race::test_a_failure_that_is_first_is_rethrown_and_the_others_are_cancelled"
        " test_branches::test_whoever_wins_the_others_are_cancelled_and_leave_nothing_behind",
        "nested flows as branches": "test_branches::test_the_keys_of_branches_do_not_depend_on_who_is_first"
        " test_branches::test_a_failure_of_a_nested_flow_can_be_caught_where_its_branch_was_opened",
        "empty ones return at once": "test_branches::test_what_is_empty_returns_at_once",
        "survive a killed worker": "test_branches"
        "::test_a_killed_worker_repeats_only_what_was_under_way_in_any_branch"
        " test_race::test_a_race_that_is_over_is_over_after_a_killed_worker",
    },
    "A09": {
        "DAG by after=": "test_convergence"
        "::test_a_node_runs_as_soon_as_what_it_comes_after_has_ended_whatever_the_others_do"
        " test_graph::test_decisions_failures_and_dependencies_of_every_sort_of_node",
        "decision (when=)": "test_convergence::test_what_converges_runs_by_its_rule_and_is_skipped_with_the_reason"
        " test_convergence"
        "::test_what_a_choice_leaves_out_is_skipped_to_the_end_unless_it_converges_with_what_was_chosen",
        "skipped with a reason, after a killed worker too": "test_graph"
        "::test_a_crash_in_the_middle_repeats_unfinished_nodes_only",
        "convergence rules": "test_convergence::test_what_converges_runs_by_its_rule_and_is_skipped_with_the_reason",
        "cycles refused": "test_convergence::test_a_graph_that_cannot_be_is_refused_before_anything_of_it_runs",
    },
    "A10": {
        "analyzer, cursor ranges, Map workers, aggregator": "test_batches"
        "::test_each_range_goes_on_from_its_own_checkpoint_after_a_crash",
        "sizes 334/334/332, zero items": "test_batches::test_a_thousand_items_by_three_and_none_at_all",
        "continue, fail_fast": "test_batches::test_a_batch_goes_on_without_what_failed_or_ends_with_it",
    },
    "A11": {
        "WaitEvent with filter": "test_events::test_two_waiters_both_get_it_and_in_one_run_too",
        "timeout": "test_events::test_a_timeout_is_of_the_databases_clock_and_survives",
        "Emit": "test_events::test_an_emit_of_a_run_is_told_once_and_gives_the_events_id",
        "events before the wait": "test_events"
        "::test_an_event_before_during_and_after_the_registration_is_delivered_once"
        " test_events::test_a_run_is_not_given_what_was_emitted_before_it_was_started",
        "races": "test_events"
        "::test_a_wait_that_times_out_loses_a_race_or_is_cancelled_leaves_nothing_behind",
        "restarts": "test_events::test_a_loop_is_given_each_event_once_through_races_checkpoints_and_restarts"
        " test_events::test_an_event_is_delivered_once_though_workers_are_killed",
        "in the caller's transaction": "test_events::test_what_a_transaction_takes_back_was_never_emitted",
        "what is no event": "test_events::test_both_clients_emit_and_refuse_what_cannot_be_told",
    },
    "A12": {
        "WaitSignal, client.signal": "test_signals::test_a_signal_wakes_a_run_that_waits"
        " test_signals::test_many_senders_at_once_lose_nothing"
        " test_signals::test_a_killed_worker_reads_a_signal_neither_twice_nor_never",
        "buffered": "test_signals::test_signals_that_come_before_the_wait_are_read_in_order_and_others_stay",
        "typed": "test_signals::test_a_payload_that_does_not_fit_fails_the_wait_once_and_names_the_path",
        "in the caller's transaction": "test_signals"
        "::test_a_signal_in_the_callers_transaction_is_there_when_that_commits"
        " test_tokens::test_a_token_is_completed_in_the_callers_transaction",
        "external completion tokens for webhooks and approvals": "test_tokens"
        "::test_a_token_gives_its_value_to_each_wait_and_can_be_used_once"
        " test_tokens::test_a_token_is_the_same_after_a_crash_and_completed_meanwhile",
        "in a later pass": "test_tokens::test_a_token_is_waited_for_by_a_later_segment_and_a_later_pass_of_its_run",
        "used twice": "test_tokens::test_a_token_is_used_by_whoever_is_first"
        " test_tokens::test_of_many_who_use_a_token_at_once_one_does",
        "forged": "test_tokens::test_what_is_no_token_is_told_nothing",
        "expired": "test_tokens::test_a_token_times_out_from_its_making_on",
        "failed, or with a value that does not fit": "test_tokens"
        "::test_a_token_that_is_failed_and_a_value_that_does_not_fit_fail_the_wait",
    },
    "A13": {
        "ContinueAsNew": "test_continue_as_new::test_kill_9_runs_no_pass_twice_and_loses_none"
        " test_continue_as_new::test_a_crash_at_the_commit_of_a_pass_loses_and_repeats_nothing",
        "endless loops with bounded history": "test_continue_as_new::test_nothing_grows_over_many_passes"
        " test_continue_as_new::test_a_long_pass_is_forgotten_bit_by_bit",
        "signals go on": "test_signals::test_a_run_that_goes_on_as_new_reads_on"
        " test_messages_over_passes::test_kill_9_between_two_passes_loses_and_repeats_no_message",
        "events go on": "test_messages_over_passes::test_what_is_emitted_between_two_passes_is_given_to_the_next"
        " test_messages_over_passes::test_events_of_every_moment_are_given_once_and_in_order"
        " test_messages_over_passes"
        "::test_a_pass_that_is_begun_from_scratch_is_not_given_the_events_of_the_passes_before",
    },
    "A14": {
        "Now, Uuid, Random": "test_facts::test_facts_are_the_same_after_a_killed_worker_and_of_the_databases_clock"
        " test_facts::test_what_a_handler_is_sent_is_what_is_recorded",
        "SetProgress": "test_progress"
        "::test_progress_is_read_while_the_run_goes_on_and_was_committed_with_its_outcome",
        "SetDeadline": "test_progress"
        "::test_a_deadline_that_a_run_gives_itself_ends_it_and_one_that_is_moved_does_not",
        "on a running run too, from outside": "test_control"
        "::test_a_deadline_can_be_set_while_the_run_goes_on"
        " test_progress::test_no_replay_moves_a_deadline_and_the_last_who_sets_it_holds",
        "Patch": "test_patch"
        "::test_a_deploy_lets_runs_past_the_change_end_the_old_way_and_all_others_take_the_new_one"
        " test_patch::test_an_answer_of_a_patch_survives_a_killed_worker"
        " test_patch::test_a_change_in_branches_and_loops_has_one_answer_in_a_run",
        "Scope": "test_coming_from_durable_rust::test_steps_of_one_name_in_a_parent_its_child_and_a_scope_are_apart",
    },
    "A15": {
        "compensate= on a step, undone in reverse, durably": "test_sagas"
        "::test_what_was_undone_before_a_worker_was_killed_is_not_undone_again_and_the_rest_is",
        "of a transaction, of a child": "test_sagas"
        "::test_transactions_and_children_are_undone_and_undo_like_steps",
        "when the run fails": "test_sagas::test_a_run_that_was_undone_and_is_retried_does_again_what_was_undone"
        " test_sagas::test_a_run_that_undoes_past_its_deadline_waits_as_a_row"
        " test_sagas::test_a_deadline_waits_for_a_part_that_is_being_undone",
        "or is cancelled": "test_sagas::test_a_cancelled_run_is_cancelled_after_it_was_undone"
        " test_sagas::test_what_was_undone_while_its_run_was_cancelled_survives_a_killed_worker",
        "cancelled while it undoes, and what cannot be undone": "test_sagas"
        "::test_a_cancel_while_a_failed_run_is_undone_changes_nothing_and_what_failed_for_good_is_shown",
    },
    "A16": {
        "commit together with the outcome that they stand next to": "test_progress"
        "::test_progress_is_read_while_the_run_goes_on_and_was_committed_with_its_outcome"
        " test_event_triggers::test_one_event_starts_one_run_though_its_emitter_is_killed"
        " test_coming_from_tasker::test_a_checkpoint_is_one_row_that_closes_its_segment_in_one_commit",
        "all of them or none": "test_effects_in_one_commit"
        "::test_a_crash_at_the_commit_of_effects_leaves_all_of_them_or_none",
        "in one round trip": "test_effects_in_one_commit"
        "::test_effects_side_by_side_and_their_outcomes_are_one_statement_of_one_commit"
        " test_one_commit_at_a_time::test_a_run_has_one_commit_on_its_way_beside_transactions",
    },
    "A17": {
        "durability=checkpoint": "test_durability"
        "::test_exactly_the_steps_since_the_last_commit_repeat_when_a_worker_is_killed"
        " test_durability"
        "::test_many_steps_take_few_commits_and_one_that_is_long_takes_what_was_told_along",
        "what is more than a step is durable": "test_durability"
        "::test_what_is_more_than_a_step_is_durable_before_its_handler_goes_on",
        "effects between steps": "test_durability"
        "::test_effects_between_steps_that_repeat_are_neither_lost_nor_doubled",
        "a lost lease": "test_durability::test_a_worker_that_lost_its_lease_commits_nothing_of_what_it_told",
        "another value": "test_durability::test_another_durability_is_refused",
    },
    "B01": {
        "every accessor under its own name": "test_contexts"
        "::test_every_accessor_has_its_value_and_missing_data_is_none_or_the_default"
        " test_coming_from_tasker::test_a_step_of_a_graph_reads_what_a_step_of_theirs_reads"
        " test_steps::test_the_context_of_a_step_knows_its_run",
        "missing data gives None or the default": "test_contexts"
        "::test_every_accessor_has_its_value_and_missing_data_is_none_or_the_default",
        "retries": "test_coming_from_tasker::test_the_retry_helpers_count_as_theirs_do",
        "checkpoint": "test_coming_from_tasker::test_a_batch_that_fails_goes_on_from_what_it_saved",
        "is_resumed": "test_contexts::test_a_start_after_a_wait_a_checkpoint_or_a_killed_worker_is_known",
        "trigger": "test_schedules::test_a_scheduled_workflow_has_its_trigger"
        " test_event_triggers::test_an_event_starts_one_run_of_each_definition_that_it_is_for",
        "now": "test_apps::test_the_time_of_a_context_is_utc_whatever_the_time_zone_of_the_database",
        "in another thread": "test_coming_from_durable_rust::test_a_context_may_be_given_to_another_thread",
    },
    "B02": {
        "silent on replay, levels, arguments": "test_coming_from_postgres_conductor"
        "::test_a_line_of_the_logger_is_written_once_with_its_level_and_arguments",
        "bound to run, step, attempt, correlation id": "test_contexts"
        "::test_a_correlation_id_flows_to_children_events_what_they_start_and_the_log",
    },
    "B03": {
        "aborted on cancel, timeout": "test_abort_signals"
        "::test_a_function_hears_of_a_cancel_a_timeout_a_deadline_and_a_lost_race",
        "shutdown": "test_abort_signals"
        "::test_a_function_hears_of_a_shutdown_and_is_called_again_without_a_failed_attempt",
        "lost lease": "test_abort_signals"
        "::test_a_function_hears_that_the_lease_was_lost_and_what_it_then_returns_is_nobodys",
        "a Transaction too": "test_abort_signals"
        "::test_a_transaction_hears_it_too_and_what_it_wrote_is_taken_back",
        "nothing else": "test_abort_signals::test_a_function_that_nobody_aborts_hears_nothing",
    },
    "B04": {
        "services with start and stop": "test_services"
        "::test_services_are_open_before_the_first_call_and_until_the_last_has_ended"
        " test_services::test_a_program_whose_services_fail_ends_with_their_error_and_each_process_has_its_own",
        "a failing start or stop": "test_services"
        "::test_services_that_fail_to_open_take_no_run_and_leave_no_session"
        " test_services::test_services_that_fail_to_close_are_told_after_the_worker_has_left",
        "typed": "typing/test_types::test_what_the_documentation_shows_has_the_types_that_it_says",
        "replaceable in tests": "test_services::test_services_are_replaced_for_a_test",
        "apart in each App": "test_apps::test_two_apps_in_one_process_know_nothing_of_each_other",
    },
    "B05": {
        "correlation id and parent's; flows to children, events, logs": "test_contexts"
        "::test_a_correlation_id_flows_to_children_events_what_they_start_and_the_log"
        " test_coming_from_tasker::test_children_have_the_correlation_id_of_who_started_them",
    },
    "B06": {
        "typed inputs: input_as(Model)": "test_contexts"
        "::test_an_input_of_another_shape_is_permanent_and_names_the_field",
        "typed dependencies": "test_coming_from_tasker::test_a_result_comes_back_as_the_type_that_is_asked_for",
        "a bad shape is permanent and names the field": "test_contexts"
        "::test_an_input_of_another_shape_is_permanent_and_names_the_field"
        " test_event_triggers::test_a_payload_that_does_not_fit_fails_that_run_for_good_and_names_the_parameter"
        " test_bad_inputs::test_an_input_that_does_not_fit_fails_at_once",
    },
    "B07": {
        "heartbeat and progress from a task": "test_progress"
        "::test_a_task_says_how_far_it_is_and_a_heartbeat_takes_none_of_it_away"
        " test_progress::test_steps_of_a_workflow_report_beside_what_it_says_itself"
        " test_progress::test_a_function_that_reports_in_a_tight_loop_costs_one_write_a_second",
        "seen by clients": "test_steps::test_progress_is_seen_while_the_step_goes_on"
        " test_progress::test_what_was_said_stays_when_the_worker_is_killed",
        "what cannot be stored": "test_progress"
        "::test_progress_that_cannot_be_stored_is_a_warning_of_a_task_and_an_error_of_a_handler",
    },
}  # fmt: skip
"""Phrases of each row, with the tests that prove them: of tests/e2e where no folder is named."""

CLAIMS = [(row, phrase, tests.split()) for row, phrases in FEATURES.items() for phrase, tests in phrases.items()]
FOLDERS = ("e2e", "bad_inputs", "faults", "typing")
"""Where tests stand that have a real server, and those of the types."""


def test_every_row_is_here() -> None:
    assert list(FEATURES) == [*(f"A{n:02}" for n in range(1, 18)), *(f"B{n:02}" for n in range(1, 8))]
    assert all(FEATURES.values())


@pytest.mark.parametrize(("row", "phrase", "tests"), CLAIMS, ids=[f"{row}: {phrase}" for row, phrase, _ in CLAIMS])
def test_a_phrase_is_proved_end_to_end_in_normal_and_in_evict_mode(row: str, phrase: str, tests: list[str]) -> None:
    assert tests
    assert len(set(tests)) == len(tests)
    for name in tests:
        file, _, test = name.partition("::")
        path = f"{file if '/' in file else f'e2e/{file}'}.py"
        assert path.startswith(FOLDERS)
        decorators = defined_in(f"tests/{path}").get(test)
        assert decorators is not None, f"{row}, {phrase}: there is no {name}"
        assert "skip" not in decorators, f"{row}, {phrase}: {name} is not run everywhere"
