"""Sleep: an absolute time that is fixed once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from flowgen.core.commands import Flow, Gather, Sleep
from flowgen.testing.bench import BEGINNING

from .running import begun, kinds, replayed, result


def nap() -> Flow[Any]:
    yield Sleep("10s")
    return "awake"


def test_it_hangs_up_until_its_time() -> None:
    bench = begun(nap)
    assert bench.execution.due_at == BEGINNING + timedelta(seconds=10)
    assert not bench.execution.busy
    bench.move_to(BEGINNING + timedelta(seconds=9))
    assert bench.finish is None
    bench.move_to(BEGINNING + timedelta(seconds=10))
    assert result(bench) == "awake"
    assert kinds(bench) == ["ARMED", "OUTCOME"]


def test_a_replay_does_not_move_it() -> None:
    bench = begun(nap)
    bench.now += timedelta(seconds=6)
    _, decision = replayed(bench)
    assert decision.hang_up is not None
    assert (decision.hang_up.due_at, decision.hang_up.messages) == (BEGINNING + timedelta(seconds=10), 0)


@pytest.mark.bad_input("B49")
def test_zero_and_the_past_wake_at_once_but_are_recorded() -> None:
    def handler() -> Flow[Any]:
        yield Sleep(0)
        yield Sleep(until=BEGINNING - timedelta(days=1))
        return "done"

    bench = begun(handler)
    assert result(bench) == "done"
    assert kinds(bench) == ["OUTCOME", "OUTCOME"]


def test_until_needs_no_entry_to_be_armed() -> None:
    def handler() -> Flow[Any]:
        yield Sleep(until=BEGINNING + timedelta(hours=1))

    bench = begun(handler)
    assert bench.items == []
    assert bench.execution.due_at == BEGINNING + timedelta(hours=1)


def test_the_earliest_of_many_wakes_first() -> None:
    def handler() -> Flow[Any]:
        yield Gather(Sleep(3), Sleep(1), Sleep(2))
        return "done"

    bench = begun(handler)
    for second in (1, 2, 3):
        assert bench.execution.due_at == BEGINNING + timedelta(seconds=second)
        bench.move_to(BEGINNING + timedelta(seconds=second))
    assert result(bench) == "done"


def test_what_waits_is_told() -> None:
    bench = begun(nap)
    assert bench.execution.waiting_for() == [("sleep", "sleep", BEGINNING + timedelta(seconds=10))]
