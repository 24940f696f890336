"""Outcomes are delivered in the order of their indexes: what a live run was told is what every replay is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import pytest

from flowgen.core.commands import Flow, Gather, Step
from flowgen.core.decision import Completed, Raised
from flowgen.core.entries import Entry
from flowgen.errors import PermanentError, StepFailed

from .running import begun, over


def work(label: str) -> str:
    raise NotImplementedError


def handler() -> Flow[Any]:
    try:
        yield Gather(Step(work, "a"), Step(work, "b"))
    except StepFailed as error:
        return error.failure.message
    return "none"


def told(delivery: Sequence[int]) -> tuple[object, object]:
    """What a live handler comes to when two failures are delivered so, and what the replay of their history does."""
    bench = begun(handler)
    live, now = bench.execution, bench.now
    entries: list[Entry] = []
    for index, key in enumerate(("gather/1/work", "gather/0/work"), start=1):
        entry = live.settle(key, Raised(PermanentError(key)))
        assert entry is not None
        entries.append(attrs.evolve(entry, index=index, recorded_at=now))
    decision = live.advance(now, [entries[place] for place in delivery])
    replay = over(bench, items=entries).advance(now)
    assert isinstance(decision.finish, Completed)
    assert isinstance(replay.finish, Completed)
    return decision.finish.output, replay.finish.output


def test_a_live_run_and_its_replay_are_told_of_the_same_failure() -> None:
    live, replay = told([0, 1])
    assert live == replay


def test_in_another_order_than_the_history_s_they_would_not_be() -> None:
    live, replay = told([1, 0])
    with pytest.raises(AssertionError):
        assert live == replay
