"""SetProgress and SetDeadline: a change of the run's row, in the commit of their outcome."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from flowgen.core.commands import Flow, Gather, SetDeadline, SetProgress, Sleep, Step
from flowgen.core.decision import Failed, NewDeadline, Progress
from flowgen.core.entries import EntryKind
from flowgen.errors import CodecError, DefinitionError

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
