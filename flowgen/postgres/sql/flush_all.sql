-- Everything that one commit of a worker can hold: as flush_runs, and children, schedules and effects.
-- Locks: the worker row FOR KEY SHARE; rows of run in the order of run_id FOR NO KEY UPDATE SKIP LOCKED; then rows of
-- schedule in the order of target and name; rows of event_wait in the order of run_id and key.
-- Index: worker_pkey, run_pkey, entry_pkey, inbox_pkey, schedule_name, event_wait_pkey.
SELECT fenced, at, due_run, due_index, due, skipped, landed, landed_status, adopted FROM {schema}.flush(
    %(session)b, %(epoch)b, %(e_run)b, %(e_index)b, %(e_facts)b, %(e_key)b, %(e_fingerprint)b, %(e_attempt)b,
    %(e_value)b, %(e_due)b, %(e_delay)b, %(c_run)b, %(c_id)b,
    %(r_run)b, %(r_action)b, %(r_claim)b, %(r_due)b, %(r_delay)b, %(r_mail_read)b, %(r_wake)b, %(r_base)b,
    %(r_prologue)b, %(r_output)b, %(r_error)b, %(r_input)b, %(r_progress)b, %(r_reports)b, %(r_lasts)b,
    %(r_parent)b, %(r_parent_key)b, %(r_letters)b, %(r_closed)b,
    %(k_run)b, %(k_id)b, %(k_facts)b, %(k_name)b, %(k_queue)b, %(k_priority)b, %(k_input)b, %(k_at)b, %(k_delay)b,
    %(k_deadline)b, %(k_tags)b, %(k_correlation)b, %(k_parent_correlation)b, %(k_parent)b, %(k_parent_key)b,
    %(k_root)b, %(k_depth)b, %(k_trigger)b, %(schedules)s::text, false, %(effects)s::text
)
