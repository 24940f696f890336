"""Start and Wait: a child that is not waited for, and its end as often as it is asked for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flowgen.core.commands import Checkpoint, Flow, Gather, RunRef, Start, Wait
from flowgen.core.context import Context
from flowgen.core.entries import EntryKind
from flowgen.core.ids import uuid_of_id
from flowgen.errors import ChildFailed, ChildTimedOut
from flowgen.testing.bench import Bench

from .running import begun, kinds, over, replayed, result, workflow


def sub(n: int) -> Flow[int]:
    return n
    yield


SUB = workflow(sub)


def ends(bench: Bench, **end: Any) -> None:
    run_id, child = next(iter(bench.children.items()))
    bench.child_ended(child.key, run_id, end)


def test_start_gives_a_reference_and_goes_on() -> None:
    def handler() -> Flow[Any]:
        ref = yield from Start(SUB, 1).opts(id="mine")
        assert isinstance(ref, RunRef)
        return [ref.key, str(ref.run_id), ref.id, ref.name]

    bench = begun(handler)
    assert result(bench) == ["sub", str(uuid_of_id("flowgen", "mine")), "mine", "sub"]
    assert kinds(bench) == ["OUTCOME"]
    _, decision = replayed(bench)
    assert decision.finish == bench.finish
    assert not decision.children


def waits() -> Flow[Any]:
    ref = yield from Start(SUB, 1)
    try:
        return (yield from Wait(ref).opts(timeout=60))
    except (ChildFailed, ChildTimedOut) as error:
        return type(error).__name__


def test_wait_gives_the_result() -> None:
    bench = begun(waits)
    ends(bench, status="completed", output=7)
    assert result(bench) == 7


def test_wait_throws_the_childs_failure() -> None:
    bench = begun(waits)
    ends(bench, status="failed", error={"type": "E", "message": "m"})
    assert result(bench) == "ChildFailed"


def test_wait_times_out_at_a_time_that_is_fixed_once() -> None:
    bench = begun(waits)
    assert kinds(bench) == ["OUTCOME", "ARMED"]
    due_at = bench.now + timedelta(seconds=60)
    bench.now += timedelta(seconds=30)
    _, decision = replayed(bench)
    assert decision.hang_up is not None
    assert decision.hang_up.due_at == due_at
    bench.move_to(due_at)
    assert result(bench) == "ChildTimedOut"


def test_an_end_that_came_before_is_not_waited_for() -> None:
    bench = begun(waits)
    ends(bench, status="completed", output=7)
    execution = over(bench, items=bench.items[:1])
    execution.post(bench.letters)
    execution.post(bench.letters)
    decision = execution.advance(bench.now)
    assert [EntryKind(entry.kind).name for entry in decision.entries] == ["OUTCOME"]
    assert decision.consumed == ()


def test_two_waits_for_one_child_both_get_its_end() -> None:
    def handler() -> Flow[Any]:
        ref = yield from Start(SUB, 1)
        both = yield from Gather(Wait(ref), Wait(ref))
        return [*both, (yield from Wait(ref))]

    bench = begun(handler)
    _, decision = replayed(bench)
    assert decision.hang_up is not None
    assert decision.hang_up.messages == 1
    ends(bench, status="completed", output=7)
    assert result(bench) == [7, 7, 7]


def test_a_child_of_the_prologue_can_be_waited_for_in_every_segment() -> None:
    def handler(ctx: Context[Any]) -> Flow[Any]:
        ref = yield from Start(SUB, 1)
        total = ctx.accumulated_results or 0
        for page in range(ctx.checkpoint_cursor or 0, 3):
            total += yield from Wait(ref)
            yield Checkpoint(page + 1, None, total)
        return total

    bench = begun(handler)
    ends(bench, status="completed", output=7)
    assert result(bench) == 21
    bench.items = bench.items[:-1]
    _, decision = replayed(bench)
    assert decision.finish is None


def test_one_that_was_started_goes_on_when_the_parent_ends() -> None:
    def handler() -> Flow[Any]:
        yield Start(SUB, 1)
        return "done"

    bench = begun(handler)
    _, decision = replayed(bench)
    assert decision.finish == bench.finish
    assert decision.cancel_children == ()
