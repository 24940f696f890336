"""SetProgress and SetDeadline: a change of the run's row, in the commit of their outcome."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import attrs
import pytest

from flowgen.core.commands import (
    Checkpoint,
    ContinueAsNew,
    Flow,
    Gather,
    Scope,
    SetDeadline,
    SetProgress,
    Sleep,
    Step,
)
from flowgen.core.context import Context
from flowgen.core.decision import Cancelled, Continued, Failed, NewDeadline, Progress, Returned
from flowgen.core.entries import Entry, EntryKind
from flowgen.errors import CodecError, DefinitionError
from flowgen.testing.bench import Bench

from .running import begun, gives, over, replayed, result, workflow


def charge(what: str) -> str:
    raise NotImplementedError


def test_progress_stands_beside_its_outcome_which_holds_none_of_it() -> None:
    def handler() -> Flow[Any]:
        yield SetProgress({"done": 1})
        yield SetProgress(["last", 2])
        return "done"

    bench = begun(handler)
    decision = over(bench, items=[]).advance(bench.now)
    assert decision.progress == Progress("setprogress", '{"done":1}')
    assert [(entry.key, entry.value) for entry in bench.items] == [("setprogress", "null"), ("setprogress#2", "null")]
    assert bench.progress == '["last",2]'
    assert result(bench) == "done"


def test_a_replay_says_nothing_again() -> None:
    def handler() -> Flow[Any]:
        yield SetProgress(1)
        yield SetDeadline("1h")
        yield Sleep(5)

    bench = begun(handler)
    execution, decision = replayed(bench, deadline=bench.now + timedelta(minutes=7))
    assert (decision.progress, decision.deadline, decision.entries) == (None, None, [])
    assert execution.deadline == bench.now + timedelta(minutes=7), "of the row, which an operator may have changed"


def test_another_wording_of_progress_is_no_other_command() -> None:
    def before() -> Flow[Any]:
        yield SetProgress("loading")
        yield Sleep(5)

    def after() -> Flow[Any]:
        yield SetProgress("loading pages")
        yield Sleep(5)

    bench = begun(workflow(before, "load"))
    execution, decision = replayed(bench, definition=workflow(after, "load", determinism="strict"))
    assert (execution.problem, decision.warnings) == (None, ())
    assert SetProgress("a") != SetProgress("b")


def test_progress_that_cannot_be_stored_is_refused_at_the_yield() -> None:
    def handler() -> Flow[Any]:
        try:
            yield SetProgress({"left": float("nan")})
        except CodecError as error:
            return [str(error), *error.__notes__]

    text, note = result(begun(handler))
    assert "the progress" in text
    assert "nan" in text
    assert f"yielded at {__file__}:" in note


def test_a_deadline_counts_from_its_commit() -> None:
    def handler() -> Flow[Any]:
        yield Sleep(10)
        yield SetDeadline("1m")
        yield Sleep(3600)

    bench = begun(handler)
    start = bench.now
    bench.move_to(start + timedelta(seconds=10))
    assert bench.execution.deadline == start + timedelta(seconds=70)
    (entry,) = [each for each in bench.items if each.key == "setdeadline"]
    assert (entry.kind, entry.due_at) == (EntryKind.OUTCOME, start + timedelta(seconds=70))
    bench.move_to(start + timedelta(seconds=70))
    assert isinstance(bench.finish, Failed)
    assert bench.finish.failure.type == "RunTimedOut"


def test_a_deadline_that_is_near_is_moved_away_and_taken_away() -> None:
    def handler() -> Flow[Any]:
        yield SetDeadline("1h")
        yield Step(charge, "a")
        yield SetDeadline(None)
        yield Sleep("10d")
        return "late"

    bench = begun(workflow(handler, deadline=timedelta(minutes=1)))
    bench.move_to(bench.now + timedelta(minutes=30))
    assert bench.finish is None
    gives(bench, "charge", "ok")
    assert bench.execution.deadline is None
    bench.move_to(bench.now + timedelta(days=10))
    assert result(bench) == "late"


def test_of_two_at_once_the_later_yield_holds() -> None:
    def handler() -> Flow[Any]:
        yield Gather(SetDeadline(60), SetProgress(1), SetDeadline(90), SetProgress(2))
        yield Sleep(1)

    bench = begun(handler)
    decision = over(bench, items=[]).advance(bench.now)
    assert decision.deadline == NewDeadline("gather/2/setdeadline", timedelta(seconds=90))
    assert decision.progress == Progress("gather/3/setprogress", "2")
    assert bench.execution.deadline == bench.now + timedelta(seconds=90)


@pytest.mark.parametrize("bad", [0, -1, "soon", True, float("inf")])
def test_a_deadline_that_is_none_is_refused_where_it_is_written(bad: Any) -> None:
    with pytest.raises(DefinitionError, match="SetDeadline"):
        SetDeadline(bad)


# ContinueAsNew


def count(n: int, last: int = 3) -> Flow[Any]:
    yield from Step(charge, f"pass {n}")
    if n == last:
        return n
    return (yield from ContinueAsNew(n + 1, last=last))


def test_a_pass_ends_with_the_input_of_the_next_and_records_nothing_of_it() -> None:
    bench = begun(count, n=1)
    decision = over(bench, items=[_given(bench, "charge")]).advance(bench.now)
    assert decision.finish == Continued('{"n":2,"last":3}')
    assert decision.entries == []
    for n in (1, 2, 3):
        assert [leaf.command for leaf in bench.execution.outstanding()] == [Step(charge, f"pass {n}")]
        gives(bench, "charge", "x")
    assert result(bench) == 3
    assert [entry.index for entry in bench.items] == [1], "only the last pass is a history"


def _given(bench: Bench, key: str) -> Entry:
    entry = bench.execution.settle(key, Returned("x"))
    assert entry is not None
    bench.execution.retract(key)
    return attrs.evolve(entry, index=1, recorded_at=bench.now)


def test_what_the_handler_opened_is_closed_before_it_goes_on() -> None:
    closed = []

    def handler(n: int) -> Flow[Any]:
        try:
            if n < 3:
                yield ContinueAsNew(n + 1)
        finally:
            closed.append(n)
        return n

    bench = begun(handler, n=1)
    assert result(bench) == 3
    assert closed == [1, 2, 3]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (lambda: ContinueAsNew(), "TypeError: ContinueAsNew() does not fit the signature of <workflow again>:"),
        (lambda: ContinueAsNew(1, 2), "ContinueAsNew(1, 2) does not fit the signature"),
        (lambda: ContinueAsNew(m=1), "ContinueAsNew(m=1) does not fit the signature"),
        (lambda: ContinueAsNew(object()), "CodecError: again argument 'n'"),
        (lambda: Gather(ContinueAsNew(1)), "DefinitionError: ContinueAsNew stands inside a branch or scope"),
        (lambda: Scope("s", ContinueAsNew(1)), "DefinitionError: ContinueAsNew stands inside a branch or scope"),
    ],
)
def test_what_cannot_go_on_is_refused_at_the_yield(command: Any, said: str) -> None:
    def again(n: Any) -> Flow[Any]:
        try:
            yield command()
        except Exception as error:
            return [f"{type(error).__name__}: {error}", *error.__notes__]

    text, note = result(begun(again, n=1))
    assert said in text
    assert f"yielded at {__file__}:" in note


def test_a_run_that_is_cancelled_does_not_go_on() -> None:
    def handler() -> Flow[Any]:
        try:
            yield Sleep(60)
        finally:
            yield ContinueAsNew()

    bench = begun(handler)
    bench.cancel("enough")
    assert bench.finish == Cancelled("enough")


def test_the_checkpoint_and_the_attempt_are_those_of_a_new_run() -> None:
    def handler(ctx: Context, n: int) -> Flow[Any]:
        seen = [ctx.has_checkpoint(), ctx.attempt, ctx.get_input("n")]
        if n == 1:
            yield Checkpoint(1, 1, "saved")
            return (yield from ContinueAsNew(2))
        return seen

    assert result(begun(handler, n=1)) == [False, 1, 2]
