"""Step: called until its outcome is committed, never again after, retried by its policy."""

from __future__ import annotations

import datetime as dt
from datetime import timedelta
from typing import Any

import pytest

from flowgen.core.commands import Flow, Step
from flowgen.core.context import StepContext, StepFacts
from flowgen.core.decision import Failed, Parked, Raised, Returned, TimedOut
from flowgen.core.entries import EntryKind, OutcomeKind
from flowgen.core.retry import Retry
from flowgen.errors import DefinitionError, PermanentError, RetryableError, StepFailed, StepInterrupted, StepTimedOut

from .running import begun, fails, gives, keys, kinds, over, replayed, result, task, workflow

Wait = timedelta


def charge(order: str, cents: int = 5) -> str:
    raise NotImplementedError


def when(order: str) -> dt.datetime:
    raise NotImplementedError


def once(order: str) -> Flow[Any]:
    return (yield from Step(charge, order))


def test_its_call_has_the_first_attempt_and_the_policy() -> None:
    charged = task(charge, retry=Retry(4), timeout=timedelta(seconds=9), config={"a": 1, "b": 1})

    def handler() -> Flow[Any]:
        return (yield Step(charged, "o").opts(config={"b": 2}))

    (call,) = begun(handler).calls.values()
    assert (call.key, call.attempt, call.max_attempts, call.timeout) == ("charge", 1, 4, timedelta(seconds=9))
    assert call.config == {"a": 1, "b": 2}
    assert call.command == Step(charged, "o")


def test_options_of_the_command_come_before_those_of_the_task() -> None:
    charged = task(charge, retry=Retry(4), timeout=timedelta(seconds=9))

    def handler() -> Flow[Any]:
        return (yield Step(charged, "o").opts(retry=Retry(2), timeout=3))

    (call,) = begun(handler).calls.values()
    assert (call.max_attempts, call.timeout) == (2, timedelta(seconds=3))


def test_the_handler_is_sent_what_decoding_gives() -> None:
    def handler() -> Flow[Any]:
        got = yield from Step(when, "o")
        return [type(got).__name__, str(got)]

    bench = begun(handler)
    gives(bench, "when", dt.datetime(2026, 1, 2, tzinfo=dt.UTC))
    assert result(bench) == ["datetime", "2026-01-02 00:00:00+00:00"]


def test_a_committed_outcome_is_never_called_again() -> None:
    bench = begun(once, order="o")
    gives(bench, "charge", "ch")
    execution, decision = replayed(bench)
    assert not decision.calls
    assert decision.finish == bench.finish


def test_a_call_without_an_outcome_is_made_again() -> None:
    bench = begun(once, order="o")
    _, decision = replayed(bench)
    assert [call.key for call in decision.calls] == ["charge"]


def test_attempts_and_their_waits_are_recorded() -> None:
    def handler() -> Flow[Any]:
        return (yield Step(charge, "o").opts(retry=Retry(3, initial=2, jitter=0)))

    bench = begun(handler)
    fails(bench, "charge", ValueError("boom"))
    entry = bench.items[-1]
    assert (entry.kind, entry.attempt, entry.due_at) == (EntryKind.ATTEMPT, 1, bench.now + timedelta(seconds=2))
    (call,) = bench.calls.values()
    assert (call.attempt, call.not_before) == (2, entry.due_at)
    _, decision = replayed(bench)
    assert [(call.attempt, call.not_before) for call in decision.calls] == [(2, entry.due_at)]


def test_a_long_wait_hangs_up_and_a_replay_does_not_shorten_it() -> None:
    def handler() -> Flow[Any]:
        return (yield Step(charge, "o").opts(retry=Retry(3, initial=30, jitter=0)))

    bench = begun(handler)
    fails(bench, "charge", ValueError("boom"))
    due_at = bench.now + timedelta(seconds=30)
    bench.now += timedelta(seconds=20)
    execution, decision = replayed(bench)
    assert decision.hang_up is not None
    assert decision.hang_up.due_at == due_at
    assert not execution.busy
    bench.move_to(due_at)
    assert bench.calls["charge"].attempt == 2


def test_when_attempts_are_exhausted_the_failure_is_thrown_with_its_origin() -> None:
    def handler() -> Flow[Any]:
        try:
            yield Step(charge, "o").opts(retry=Retry(2, initial=0))
        except StepFailed as error:
            return [str(error), error.failure.type, error.attempts, error.name]

    bench = begun(handler)
    fails(bench, "charge", ValueError("boom"))
    fails(bench, "charge", ValueError("boom"))
    assert result(bench) == ["charge failed after 2 attempts: ValueError: boom", "ValueError", 2, "charge"]
    assert kinds(bench) == ["ATTEMPT", "OUTCOME"]


def test_uncaught_it_fails_the_run_and_names_the_original() -> None:
    bench = begun(once, order="o")
    fails(bench, "charge", PermanentError("no"))
    assert isinstance(bench.finish, Failed)
    assert bench.finish.failure.type == "StepFailed"
    assert bench.finish.failure.message == "charge failed after 1 attempt: PermanentError: no"
    assert bench.finish.failure.details["cause"] == {"type": "PermanentError", "message": "no"}


def test_a_plain_task_fails_with_its_own_error() -> None:
    bench = begun(task(charge), order="o")
    fails(bench, "charge", ValueError("boom"))
    assert isinstance(bench.finish, Failed)
    assert (bench.finish.failure.type, bench.finish.failure.message) == ("ValueError", "boom")
    assert bench.finish.retry_after is None


def test_a_plain_task_returns_what_its_function_gives() -> None:
    bench = begun(task(charge), order="o")
    gives(bench, "charge", "ch")
    assert result(bench) == "ch"


def test_retry_after_of_the_function_is_honoured() -> None:
    bench = begun(workflow(once), order="o")
    fails(bench, "charge", RetryableError("later", retry_after=100))
    assert bench.execution.due_at == bench.now + timedelta(seconds=100)


def test_a_timeout_is_a_failed_attempt_and_in_the_end_a_timeout() -> None:
    def handler() -> Flow[Any]:
        try:
            yield Step(charge, "o").opts(retry=Retry(2, initial=0), timeout=1)
        except StepTimedOut as error:
            return error.failure.type

    bench = begun(handler)
    bench.settle("charge", TimedOut(timedelta(seconds=1)))
    bench.settle("charge", TimedOut(timedelta(seconds=1)))
    assert bench.items[-1].status == OutcomeKind.TIMEOUT
    assert result(bench) == "StepTimedOut"


def test_a_result_that_cannot_be_stored_is_a_permanent_failure() -> None:
    bench = begun(once, order="o")
    gives(bench, "charge", object())
    assert isinstance(bench.finish, Failed)
    assert "CodecError: the result of charge" in bench.finish.failure.message
    assert kinds(bench) == ["OUTCOME"]


def test_a_stored_value_that_cannot_be_read_parks_the_run() -> None:
    bench = begun(once, order="o")
    gives(bench, "charge", "ch")

    def charge(order: str, cents: int = 5) -> int:
        raise NotImplementedError

    def changed(order: str) -> Flow[Any]:
        return (yield from Step(charge, order))

    execution, decision = replayed(bench, definition=workflow(changed, "once"))
    assert isinstance(decision.finish, Parked)
    assert decision.finish.reason == "undecodable"
    assert "the result of charge" in decision.finish.detail
    assert execution.problem is not None


class TestAtMostOnce:
    @staticmethod
    def handler(order: str) -> Flow[Any]:
        try:
            return (yield Step(charge, order).opts(at_most_once=True, retry=Retry(2, initial=1, jitter=0)))
        except StepInterrupted as error:
            return f"interrupted {error.attempts}"

    def test_it_is_announced_before_it_is_called(self) -> None:
        execution = over(begun(workflow(self.handler), order="o"), items=[])
        decision = execution.advance(begun(once, order="o").now)
        assert [EntryKind(entry.kind).name for entry in decision.entries] == ["STARTED"]
        assert not decision.calls

    def test_started_without_an_outcome_is_interrupted_and_not_called(self) -> None:
        bench = begun(workflow(self.handler), order="o")
        bench.restart()
        bench.go()
        assert result(bench) == "interrupted 1"

    def test_a_known_failure_is_tried_again(self) -> None:
        bench = begun(workflow(self.handler), order="o")
        fails(bench, "charge", ValueError("boom"))
        assert not bench.calls
        bench.move_to(bench.now + timedelta(seconds=1))
        assert bench.calls["charge"].attempt == 2
        gives(bench, "charge", "ch")
        assert result(bench) == "ch"
        assert kinds(bench) == ["STARTED", "ATTEMPT", "STARTED", "OUTCOME"]

    def test_a_worker_lost_in_the_wait_before_the_next_attempt_interrupts_nothing(self) -> None:
        bench = begun(workflow(self.handler), order="o")
        fails(bench, "charge", ValueError("boom"))
        bench.restart()
        bench.go()
        bench.move_to(bench.now + timedelta(seconds=1))
        gives(bench, "charge", "ch")
        assert result(bench) == "ch"


def test_a_result_that_nobody_wants_is_refused() -> None:
    bench = begun(once, order="o")
    assert bench.execution.settle("unknown", Returned(1)) is None
    first = bench.execution.settle("charge", Returned("a"))
    assert first is not None
    assert bench.execution.settle("charge", Returned("b")) is None
    assert not bench.execution.calling("charge")


def test_a_retracted_result_leaves_the_call_in_flight() -> None:
    bench = begun(once, order="o")
    bench.execution.retract("charge")
    assert bench.execution.calling("charge")
    assert bench.execution.settle("charge", Returned("a")) is not None
    bench.execution.retract("charge")
    assert bench.execution.calling("charge")
    assert bench.execution.settle("charge", Raised(PermanentError("no"))) is not None


def test_a_lambda_needs_a_name() -> None:
    def handler() -> Flow[Any]:
        try:
            yield Step(lambda: 1)
        except DefinitionError as error:
            said = str(error)
        named = yield Step(lambda: 2).opts(name="two")
        return [".opts(name=)" in said, named]

    bench = begun(handler)
    gives(bench, "two", 2)
    assert result(bench) == [True, 2]


def test_the_context_of_its_function_shares_what_is_known() -> None:
    bench = begun(once, order="o-1")
    context = bench.execution.step_context(StepFacts(key="charge", attempt=2, max_attempts=3))
    assert isinstance(context, StepContext)
    assert (context.get_input("order"), context.attempt, context.is_retry()) == ("o-1", 2, True)


def test_results_are_known_by_name() -> None:
    def handler() -> Flow[Any]:
        yield Step(charge, "a")
        yield Step(charge, "b")
        return bench.execution.context.get_dependency_result_keys()

    bench = begun(handler)
    gives(bench, "charge", "a")
    gives(bench, "charge#2", "b")
    assert result(bench) == ["charge", "charge#2"] == keys(bench)


@pytest.mark.parametrize("error", [SystemExit(1), MemoryError()])
def test_any_error_of_a_function_is_a_failed_attempt(error: BaseException) -> None:
    bench = begun(workflow(once), order="o")
    fails(bench, "charge", error)
    assert kinds(bench) == ["ATTEMPT"]
