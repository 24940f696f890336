"""Cancellation: recorded, thrown in, cleaned up after, and final."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import attrs
import pytest

from flowgen.core.closing import MAX_CLEANUPS
from flowgen.core.commands import Flow, Gather, Invoke, Scope, Sleep, Step
from flowgen.core.decision import Cancelled as CancelledRun
from flowgen.core.decision import Completed, Decision, Failed, Returned
from flowgen.core.entries import EntryKind, OutcomeKind
from flowgen.errors import Cancelled

from .running import begun, gives, keys, over, replayed, workflow


def work(label: str) -> str:
    raise NotImplementedError


def careful() -> Flow[Any]:
    try:
        yield Step(work, "a")
    finally:
        yield Step(work, "undo").opts(name="undo")
        yield Sleep(10)


def test_it_is_an_entry_without_a_key_and_replays() -> None:
    bench = begun(careful)
    bench.cancel("enough")
    (entry,) = bench.items
    assert (entry.kind, entry.key, entry.status) == (EntryKind.OUTCOME, "", OutcomeKind.CANCELLATION)
    _, decision = replayed(bench)
    assert [call.key for call in decision.calls] == ["undo"]


def test_clean_up_commands_run_before_the_run_is_cancelled() -> None:
    bench = begun(careful)
    bench.cancel("enough")
    assert list(bench.calls) == ["undo"]
    gives(bench, "undo", "x")
    bench.restart()
    bench.go()
    assert bench.finish is None
    bench.move_to(bench.now + timedelta(seconds=10))
    assert bench.finish == CancelledRun("enough")
    _, decision = replayed(bench)
    assert decision.finish == bench.finish


def test_a_call_in_flight_is_aborted_and_its_late_result_refused() -> None:
    bench = begun(careful)
    execution = bench.execution
    (entry,) = execution.cancel().entries
    late = execution.settle("work", Returned("late"))
    assert late is not None
    execution.retract("work")
    decision = execution.advance(bench.now, [attrs.evolve(entry, index=1)])
    assert decision.aborts == ["work"]
    assert execution.settle("work", Returned("late")) is None
    assert not execution.calling("work")


def test_nothing_new_is_asked_while_it_is_on_its_way() -> None:
    def two() -> Flow[Any]:
        yield Step(work, "a")
        yield Step(work, "b")

    bench = begun(two)
    execution = bench.execution
    (cancellation,) = execution.cancel().entries
    first = execution.settle("work", Returned("x"))
    assert first is not None
    decision = execution.advance(bench.now, [attrs.evolve(first, index=1)])
    assert (decision.calls, decision.entries, decision.hang_up) == ([], [], None)
    decision = execution.advance(bench.now, [attrs.evolve(cancellation, index=2)])
    assert decision.finish == CancelledRun(None)


def test_a_second_one_says_nothing() -> None:
    bench = begun(careful)
    bench.execution.cancel()
    assert bench.execution.cancel() == Decision()
    done = begun(workflow(lambda: (yield Sleep(0)), "done"))
    assert done.execution.cancel() == Decision()


def test_before_the_first_step_it_is_thrown_at_the_first_yield() -> None:
    bench = begun(careful)
    execution = over(bench, items=[])
    (entry,) = execution.cancel("early").entries
    decision = execution.advance(bench.now, [attrs.evolve(entry, index=1)])
    assert [call.key for call in decision.calls] == ["undo"]


def test_except_exception_does_not_catch_it() -> None:
    def handler() -> Flow[Any]:
        try:
            yield Step(work, "a")
        except Exception:
            return "caught"

    bench = begun(handler)
    bench.cancel(None)
    assert bench.finish == CancelledRun(None)


@pytest.mark.bad_input("B34")
def test_swallowed_it_still_ends_as_cancelled() -> None:
    def handler() -> Flow[Any]:
        try:
            yield Step(work, "a")
        except BaseException:
            yield Step(work, "b").opts(name="b")
        return "went on"

    bench = begun(handler)
    bench.cancel("enough")
    gives(bench, "b", "x")
    assert bench.finish == CancelledRun("enough")


@pytest.mark.bad_input("B34")
def test_a_handler_that_never_stops_is_closed() -> None:
    def stubborn() -> Flow[Any]:
        while True:
            try:
                yield Sleep(0)
                yield Sleep(5)
            except BaseException:
                pass

    def patient() -> Flow[Any]:
        yield Step(work, "a")
        try:
            yield Step(work, "b")
        except Cancelled:
            while True:
                yield Sleep(0)

    bench = begun(patient)
    gives(bench, "work", "x")
    bench.cancel("enough")
    assert bench.finish == CancelledRun("enough")
    assert len(keys(bench)) == MAX_CLEANUPS + 2
    assert "swallows Cancelled" in bench.warnings[0]
    _, decision = replayed(bench)
    assert decision.finish == bench.finish
    assert stubborn


def test_an_error_of_the_clean_up_does_not_change_the_end() -> None:
    def handler() -> Flow[Any]:
        try:
            yield Step(work, "a")
        finally:
            raise ValueError("boom")

    bench = begun(handler)
    bench.cancel("enough")
    assert bench.finish == CancelledRun("enough")


def test_branches_are_unwound_before_their_parent() -> None:
    seen: list[str] = []

    def branch(label: str) -> Flow[Any]:
        try:
            yield Step(work, label)
        finally:
            seen.append(label)
            yield Step(work, "undo").opts(name="undo")

    def handler() -> Flow[Any]:
        try:
            yield Gather(branch("a"), Scope("s", branch("b")), Step(work, "c"), Invoke(SUB))
        except Cancelled:
            seen.append("parent")
            raise

    bench = begun(handler)
    bench.cancel("enough")
    assert seen == ["a", "b"]
    assert list(bench.calls) == ["gather/0/undo", "gather/1/s/undo"]
    gives(bench, "gather/1/s/undo", "x")
    gives(bench, "gather/0/undo", "x")
    assert seen == ["a", "b", "parent"]
    assert bench.finish == CancelledRun("enough")


SUB = workflow(careful, "sub")


def test_a_handler_that_ended_before_is_completed() -> None:
    def handler() -> Flow[Any]:
        return (yield Step(work, "a"))

    bench = begun(handler)
    last = bench.execution.settle("work", Returned("x"))
    (cancellation,) = bench.execution.cancel("late").entries
    assert last is not None
    entries = [attrs.evolve(last, index=1), attrs.evolve(cancellation, index=2)]
    assert bench.execution.advance(bench.now, entries).finish == Completed('"x"')
    assert over(bench, items=entries).advance(bench.now).finish == Completed('"x"')


class TestDeadline:
    def test_past_it_the_run_fails(self) -> None:
        bench = begun(workflow(careful, deadline=timedelta(seconds=60)))
        bench.move_to(bench.now + timedelta(seconds=60))
        assert isinstance(bench.finish, Failed)
        assert bench.finish.failure.type == "RunTimedOut"
        assert bench.finish.retry_after is None
        assert not bench.calls

    def test_a_run_that_is_being_cancelled_is_cancelled_at_it(self) -> None:
        bench = begun(workflow(careful, deadline=timedelta(seconds=60)))
        bench.cancel("enough")
        bench.move_to(bench.now + timedelta(seconds=60))
        assert bench.finish == CancelledRun("enough")

    def test_an_end_in_time_counts(self) -> None:
        bench = begun(workflow(lambda_flow, deadline=timedelta(seconds=60)))
        assert bench.status == "completed"


def lambda_flow() -> Flow[Any]:
    return 1
    yield


@pytest.mark.parametrize("reason", [None, "enough"])
def test_the_reason_is_told(reason: str | None) -> None:
    def handler() -> Flow[Any]:
        try:
            yield Step(work, "a")
        except Cancelled as error:
            seen.append(error.args)
            raise

    seen: list[Any] = []
    bench = begun(handler)
    bench.cancel(reason)
    assert seen == [(reason,)]
