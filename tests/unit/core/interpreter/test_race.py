"""Race: the first branch to end, in the order of history, wins; the others are cancelled."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from flowgen.core.commands import Checkpoint, Flow, Gather, Invoke, Race, Sleep, Step, WaitSignal
from flowgen.core.context import Context
from flowgen.core.decision import Returned
from flowgen.errors import Cancelled, DefinitionError, PermanentError, StepFailed
from flowgen.testing.bench import BEGINNING
from flowgen.testing.outcomes import gave

from .running import begun, fails, gives, keys, over, result


def work(label: str) -> str:
    raise NotImplementedError


def branch(label: str, seen: list[str]) -> Flow[str]:
    try:
        yield from Step(work, label)
        return (yield from Step(work, label))
    except Cancelled:
        seen.append(label)
        raise


def test_the_first_to_end_wins_and_the_others_are_cancelled() -> None:
    seen: list[str] = []

    def handler() -> Flow[Any]:
        won = yield from Race(a=Step(work, "a"), b=branch("b", seen), late=Sleep(60))
        return [won.tag, won.value]

    bench = begun(handler)
    gives(bench, "race/b/work", "x")
    gives(bench, "race/a/work", "y")
    assert result(bench) == ["a", "y"]
    assert seen == ["b"]
    assert keys(bench) == ["race/b/work", "race/a/work"]


def test_a_time_can_win() -> None:
    def handler() -> Flow[Any]:
        won = yield from Race(a=Step(work, "a"), late=Sleep(60))
        return [won.tag, won.value]

    bench = begun(handler)
    bench.move_to(bench.now + timedelta(seconds=61))
    assert result(bench) == ["late", None]


def test_a_failure_that_comes_first_is_rethrown() -> None:
    def handler() -> Flow[Any]:
        try:
            yield Race(a=Step(work, "a"), late=Sleep(60))
        except StepFailed as error:
            return error.name

    bench = begun(handler)
    fails(bench, "race/a/work", PermanentError("no"))
    assert result(bench) == "race/a/work"


def test_a_replay_has_the_same_winner_whatever_the_order_of_the_branches() -> None:
    def handler() -> Flow[Any]:
        won = yield from Race(a=Step(work, "a"), b=Step(work, "b"))
        yield from Step(work, "after")
        return won.tag

    bench = begun(handler)
    gives(bench, "race/b/work", "b")
    bench.restart()
    bench.go()
    gives(bench, "work", "c")
    assert result(bench) == "b"


def test_a_branch_that_ends_at_once_wins() -> None:
    def at_once() -> Flow[str]:
        return "now"
        yield

    def handler() -> Flow[Any]:
        return (yield from Race(a=Step(work, "a"), b=at_once())).tag

    bench = begun(handler)
    assert result(bench) == "b"
    assert bench.calls == {}


def test_a_race_without_branches_is_refused() -> None:
    with pytest.raises(DefinitionError, match="needs a branch that can win"):
        Race()


def test_a_race_beside_others_is_woken_by_the_first_child_that_ends() -> None:
    def handler() -> Flow[Any]:
        yield Gather(Race(a=Invoke("slow"), b=Invoke("fast")), Invoke("other"))

    hung = begun(handler).execution.advance(BEGINNING).hang_up
    assert hung is not None
    assert hung.messages == 1


def test_what_a_named_loser_came_to_is_not_kept_for_the_next_segment() -> None:
    """It was on its way to the history when its branch lost; a later page waits anew, live as in a replay."""

    def handler(ctx: Context[Any]) -> Flow[Any]:
        won = ctx.accumulated_results or []
        for page in range(ctx.checkpoint_cursor or 0, 3):
            found = yield from Race(a=WaitSignal("x").opts(name="told"), b=Step(work, "b")).opts(name="r")
            won = [*won, found.value]
            yield Checkpoint(page + 1, accumulated_results=won)
        return won

    bench = begun(handler)
    for value in ("b1", "b2"):
        leaf, entry = bench.leaf("r/a/told"), bench.execution.settle("r/b/work", Returned(value))
        assert leaf is not None
        assert entry is not None
        del bench.calls["r/b/work"]
        bench.go([bench._commit(entry), bench._commit(gave(leaf, "too late"))])
        again = over(bench)
        again.advance(bench.now)
        waiting = {each.key for each in bench.execution.outstanding()}
        assert {each.key for each in again.outstanding()} == waiting == {"r/a/told", "r/b/work"}
    bench.signalled("x", "told")
    assert result(bench) == ["b1", "b2", "told"]
