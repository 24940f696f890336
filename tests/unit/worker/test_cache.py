"""Executions that wait: taken up again when the claim after their hang-up knows nothing more, else replayed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import attrs
import pytest

from flowgen.core.commands import Flow, Sleep
from flowgen.core.definitions import DefinitionOptions, Workflow
from flowgen.core.entries import Entry, EntryKind
from flowgen.core.retry import Retry
from flowgen.postgres.rows import ClaimedRun
from flowgen.testing.bench import Bench
from flowgen.worker.cache import Cache
from flowgen.worker.live import LiveRun

RUN = UUID(int=1)


def sleeper() -> Flow[None]:
    yield Sleep(60)


NOTHING: dict[str, Any] = {each.name: None for each in attrs.fields(ClaimedRun) if each.default is attrs.NOTHING}


def claimed(claim: int, next_index: int, **given: Any) -> ClaimedRun:
    fields = {**NOTHING, "run_id": RUN, "name": "sleeper", "claim": claim, "mail": 0, "next_index": next_index}
    return ClaimedRun(**{**fields, **given})


@pytest.fixture
def kept() -> Iterator[tuple[Cache, LiveRun]]:
    """A run that has hung up under its fourth claim, with ten entries."""
    bench = Bench(definition=Workflow(sleeper, None, DefinitionOptions(retry=Retry(1))), input="{}")
    bench.go()
    run = LiveRun(claimed(4, 0), bench.execution, 11, 0)
    cache = Cache(10)
    cache.keep(run)
    yield cache, run
    bench.execution.close()


def test_a_claim_that_was_sent_before_the_hang_up_needs_no_replay(kept: tuple[Cache, LiveRun]) -> None:
    cache, run = kept
    assert cache.revived(claimed(5, 11, entries=None)) is run
    assert run.claimed.claim == 5
    assert cache.revived(claimed(5, 11, entries=None)) is None


def test_a_claim_that_was_told_what_is_here_needs_no_replay(kept: tuple[Cache, LiveRun]) -> None:
    cache, run = kept
    assert cache.revived(claimed(5, 11, entries=(), partial=True)) is run


@pytest.mark.parametrize(
    "after",
    [
        claimed(6, 11, entries=None),
        claimed(5, 12, entries=None),
        claimed(5, 12, entries=[Entry(11, EntryKind.SET_ASIDE, "")], partial=True),
    ],
    ids=["somebody else had it", "it has more entries", "it has one more entry"],
)
def test_what_is_not_up_to_date_is_dropped(kept: tuple[Cache, LiveRun], after: ClaimedRun) -> None:
    cache, _ = kept
    assert cache.revived(after) is None
    assert cache.haves() == []
