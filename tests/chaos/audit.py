"""I18, the replay audit: every stored history, replayed against the code, fits and gives the stored result."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from flowgen import Trace
from flowgen.testing import replay
from tests.chaos import more_flows
from tests.chaos.evidence import COMPLETED, RunRow, Violation
from tests.chaos.witness import plain

MOST = 4000
"""Histories that are replayed; of more, so many that the seed chooses."""

app = more_flows.app


def audit(trace: Callable[[str], Trace[Any]], rows: Sequence[RunRow], seed: int) -> Iterator[Violation]:
    """What does not replay to what is stored; `trace` gives the history of a run."""
    known = [row for row in rows if row.name in app.definitions and row.claim and not _cannot_be_read(row)]
    for row in known if len(known) <= MOST else random.Random(seed).sample(known, MOST):
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                value = replay(app.definition(row.name), trace(row.run))
        except Exception as error:
            yield Violation("I18", row.run, f"{row.name} does not replay: {type(error).__name__}: {str(error)[:400]}")
            continue
        if said:
            yield Violation("I18", row.run, f"{row.name} replays with a warning: {said[0].message}")
        wanted = row.output if row.status == COMPLETED else None
        if plain(value) != plain(wanted):
            yield Violation("I18", row.run, f"{row.name} replays to {value!r}, {wanted!r} is stored")


def _cannot_be_read(row: RunRow) -> bool:
    """Its input is bad, which is what it failed with."""
    return row.name == "strict"
