"""Invoke: one child run, made once, whose end is the outcome."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import attrs
import pytest

from flowgen.core.commands import Flow, Gather, Invoke, Step
from flowgen.core.decision import UNWANTED, Failed, Raised, Returned
from flowgen.core.entries import EntryKind
from flowgen.core.ids import uuid_of_id
from flowgen.errors import ChildCancelled, ChildFailed, ChildTimedOut, CodecError, PermanentError, StepFailed
from flowgen.testing.bench import Bench

from .running import begun, kinds, over, replayed, result, statuses, workflow


def sub(n: int) -> Flow[int]:
    yield Step(sub_step)
    return n


def sub_step() -> None:
    raise NotImplementedError


SUB = workflow(sub)


def parent() -> Flow[Any]:
    try:
        return (yield from Invoke(SUB, 1).opts(timeout=60))
    except (ChildFailed, ChildCancelled, ChildTimedOut) as error:
        return [type(error).__name__, str(error), str(error.failure)]


def ends(bench: Bench, **end: Any) -> None:
    run_id, child = list(bench.children.items())[-1]
    bench.child_ended(child.key, run_id, end)


def test_the_child_is_made_in_the_commit_of_its_entry() -> None:
    bench = begun(parent)
    (child,) = bench.children.values()
    assert (child.key, child.input, child.command) == ("sub", '{"n":1}', Invoke(SUB, 1))
    assert json.loads(bench.items[-1].value or "") == str(child.run_id)
    assert kinds(bench) == ["CHILD"]


def test_it_is_made_once() -> None:
    bench = begun(parent)
    _, decision = replayed(bench)
    assert not decision.children
    assert decision.hang_up is not None
    assert decision.hang_up.messages == 1


def test_its_result_is_the_outcome_and_the_message_is_consumed() -> None:
    bench = begun(parent)
    run_id = next(iter(bench.children))
    execution = over(bench)
    execution.advance(bench.now)
    ends(bench, status="completed", output=5)
    assert result(bench) == 5
    assert kinds(bench) == ["CHILD", "OUTCOME"]
    assert run_id


@pytest.mark.parametrize(
    ("end", "seen"),
    [
        (
            {"status": "failed", "error": {"type": "ValueError", "message": "boom"}},
            ["ChildFailed", "Child run failed: ValueError: boom", "ValueError: boom"],
        ),
        (
            {"status": "cancelled", "error": {"reason": "enough"}},
            ["ChildCancelled", "Child run was cancelled: sub (enough)", "RunCancelled: enough"],
        ),
        (
            {"status": "cancelled", "error": None},
            ["ChildCancelled", "Child run was cancelled: sub", "RunCancelled: cancelled"],
        ),
    ],
)
def test_its_bad_ends_are_thrown(end: dict[str, Any], seen: list[str]) -> None:
    bench = begun(parent)
    ends(bench, **end)
    assert result(bench) == seen


def test_a_timed_out_child_is_cancelled() -> None:
    bench = begun(parent)
    (run_id,) = bench.children
    execution, _ = replayed(bench)
    decision = execution.advance(bench.now + timedelta(seconds=60))
    assert decision.cancel_children == [run_id]
    bench.move_to(bench.now + timedelta(seconds=60))
    assert result(bench)[:2] == ["ChildTimedOut", "Child run timed out: sub"]


@pytest.mark.parametrize(
    ("seconds", "reason", "seen"),
    [
        (60, UNWANTED, "ChildTimedOut"),
        (60, "enough", "ChildCancelled"),
        (59, UNWANTED, "ChildCancelled"),
    ],
)
def test_a_child_that_was_given_up_is_timed_out_though_its_cancellation_was_known_before_that_was_recorded(
    seconds: int, reason: str, seen: str
) -> None:
    """As by an owner that cancelled the child and was lost before its commit."""
    bench = begun(parent)
    bench.now += timedelta(seconds=seconds)
    ends(bench, status="cancelled", error={"reason": reason})
    assert result(bench)[0] == seen


def test_an_abandoned_one_goes_on() -> None:
    def handler() -> Flow[Any]:
        try:
            yield Invoke(SUB, 1).opts(timeout=60, on_timeout="abandon")
        except ChildTimedOut:
            return "late"

    bench = begun(handler)
    execution, _ = replayed(bench)
    decision = execution.advance(bench.now + timedelta(seconds=60))
    assert decision.cancel_children == ()
    assert [entry.status for entry in decision.entries] == [3]


def test_uncaught_it_fails_the_parent() -> None:
    def handler() -> Flow[Any]:
        yield Invoke(SUB, 1)

    bench = begun(handler)
    ends(bench, status="failed", error={"type": "ValueError", "message": "boom"})
    assert isinstance(bench.finish, Failed)
    assert bench.finish.failure.message == "Child run failed: ValueError: boom"


def test_an_id_of_the_author_is_the_childs() -> None:
    def handler() -> Flow[Any]:
        yield Invoke(SUB, 1).opts(id="mine")

    assert list(begun(handler).children) == [uuid_of_id("flowgen", "mine")]


def test_by_name_it_takes_arguments_as_they_are() -> None:
    def handler() -> Flow[Any]:
        yield Gather(Invoke("other", a=1), Invoke("other", 1, b=2))

    assert [child.input for child in begun(handler).children.values()] == ['{"a":1}', '[[1],{"b":2}]']


def test_an_argument_that_cannot_be_stored_is_refused_at_the_yield() -> None:
    def handler() -> Flow[Any]:
        try:
            yield Invoke(SUB, object())
        except CodecError as error:
            return [str(error), error.__notes__]

    bench = begun(handler)
    said, notes = result(bench)
    assert "sub argument 'n'" in said
    assert "test_invoke.py:" in notes[0]
    assert bench.items == []


def test_a_child_that_is_cut_off_is_cancelled() -> None:
    def handler() -> Flow[Any]:
        try:
            yield Gather(Invoke(SUB, 1), Step(sub_step))
        except StepFailed:
            return "failed"

    bench = begun(handler)
    (run_id,) = bench.children
    entry = bench.execution.settle("gather/1/sub_step", Raised(PermanentError("no")))
    assert entry is not None
    decision = bench.execution.advance(bench.now, [attrs.evolve(entry, index=2)])
    assert decision.cancel_children == [run_id]


def test_a_child_whose_entry_comes_after_its_branch_was_cut_is_cancelled() -> None:
    def handler() -> Flow[Any]:
        try:
            yield Gather(Step(sub_step), waits())
        except StepFailed:
            yield Step(sub_step).opts(name="after")

    def waits() -> Flow[Any]:
        yield Step(sub_step)
        yield Invoke(SUB, 1)

    execution = over(begun(handler), items=[])
    now = begun(handler).now
    execution.advance(now)
    first = execution.settle("gather/1/sub_step", Returned(None))
    assert first is not None
    made = execution.advance(now, [attrs.evolve(first, index=1)])
    (child,) = [entry for entry in made.entries if entry.kind == EntryKind.CHILD]
    failed = execution.settle("gather/0/sub_step", Raised(PermanentError("no")))
    assert failed is not None
    decision = execution.advance(now, [attrs.evolve(failed, index=2), attrs.evolve(child, index=3)])
    assert decision.cancel_children == [made.children[0].run_id]


def test_a_letter_about_an_earlier_child_of_the_same_key_is_not_taken() -> None:
    bench = begun(parent)
    run_id, child = next(iter(bench.children.items()))
    bench.child_ended("sub", type(run_id)(int=1), {"status": "completed", "output": 1})
    assert bench.finish is None
    ends(bench, status="completed", output=2)
    assert result(bench) == 2
    assert statuses(bench) == {"sub": "VALUE"}


def test_a_message_is_taken_in_once() -> None:
    bench = begun(parent)
    ends(bench, status="completed", output=2)
    assert result(bench) == 2
    assert kinds(bench) == ["CHILD", "OUTCOME"]


def test_a_join_of_children_is_woken_when_all_have_ended() -> None:
    def handler() -> Flow[Any]:
        return list((yield Gather(*[Invoke(SUB, n) for n in range(5)])))

    bench = begun(handler)
    _, decision = replayed(bench)
    assert decision.hang_up is not None
    assert decision.hang_up.messages == 5
    for run_id, child in list(bench.children.items()):
        bench.child_ended(child.key, run_id, {"status": "completed", "output": json.loads(child.input)["n"]})
    assert result(bench) == [0, 1, 2, 3, 4]
