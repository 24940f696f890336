"""I18, the replay audit: every stored history, replayed against the code, fits and gives the stored result."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

from flowgen.testing import replay
from tests.chaos import flows
from tests.chaos.checker import Violation
from tests.chaos.evidence import COMPLETED, RunRow
from tests.chaos.witness import plain

app = flows.app


def audit(client: Any, rows: Iterable[RunRow]) -> Iterator[Violation]:
    """What does not replay to what is stored."""
    for row in rows:
        if row.name not in app.definitions:
            continue
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                value = replay(app.definition(row.name), client.trace(row.run))
        except Exception as error:
            yield Violation("I18", row.run, f"{row.name} does not replay: {type(error).__name__}: {str(error)[:400]}")
            continue
        if said:
            yield Violation("I18", row.run, f"{row.name} replays with a warning: {said[0].message}")
        wanted = row.output if row.status == COMPLETED else None
        if plain(value) != plain(wanted):
            yield Violation("I18", row.run, f"{row.name} replays to {value!r}, {wanted!r} is stored")
