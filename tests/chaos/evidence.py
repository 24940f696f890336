"""What the checker judges: rows of the database, lines of the witness, what the client was told, what was killed."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import cached_property
from typing import Any, TypeAlias

import attrs

OUTCOME, CHECKPOINT, SET_ASIDE = 1, 6, 7
VALUE, FAILURE = 1, 2
COMPLETED, FAILED, CANCELLED = 7, 8, 9

Call: TypeAlias = tuple[str, str, int]
"""Run, key, segment."""
Line: TypeAlias = dict[str, Any]


@attrs.frozen
class RunRow:
    run: str
    id: str | None
    name: str
    status: int
    input: dict[str, Any]
    output: Any = None
    error: Any = None
    parent: str | None = None
    recoveries: int = 0
    trigger: Any = None
    base: int | None = None
    prologue: int | None = None
    attempt: int = 1
    claim: int = 1
    text: str = ""


@attrs.frozen
class EntryRow:
    run: str
    index: int
    kind: int
    key: str
    status: int | None = None
    attempt: int | None = None
    value: str | None = None
    named: bool = False


@attrs.frozen
class Change:
    """What the audit triggers saw."""

    what: str
    run: str
    before: int | None = None
    after: int | None = None


@attrs.frozen
class ScheduleRow:
    target: str
    name: str
    origin: str


@attrs.frozen
class Kill:
    """Somebody was killed at `t`; `who` is None for the server."""

    t: float
    who: str | None


@attrs.frozen
class Outcome:
    """A stored outcome that answers."""

    call: Call
    index: int
    status: int
    value: str | None
    attempt: int | None


@attrs.define(slots=False)
class Evidence:
    """All of it. Pure data: nothing here is read anew."""

    starts: list[dict[str, Any]] = attrs.field(factory=list)
    runs: list[RunRow] = attrs.field(factory=list)
    entries: list[EntryRow] = attrs.field(factory=list)
    ledger: dict[Call, int] = attrs.field(factory=dict)
    changes: list[Change] = attrs.field(factory=list)
    schedules: list[ScheduleRow] = attrs.field(factory=list)
    lines: list[Line] = attrs.field(factory=list)
    kills: list[Kill] = attrs.field(factory=list)
    lease: float = 0.0

    @cached_property
    def by_id(self) -> dict[str, RunRow]:
        return {row.run: row for row in self.runs}

    @cached_property
    def history(self) -> dict[str, list[EntryRow]]:
        found: dict[str, list[EntryRow]] = defaultdict(list)
        for entry in self.entries:
            found[entry.run].append(entry)
        return found

    @cached_property
    def outcomes(self) -> dict[Call, list[Outcome]]:
        """Every outcome that was not set aside, by its call. A checkpoint begins the next segment."""
        found: dict[Call, list[Outcome]] = defaultdict(list)
        for run, entries in self.history.items():
            aside, below = _set_aside(entries)
            segment = 0
            for entry in entries:
                if entry.kind == CHECKPOINT:
                    segment += 1
                elif entry.kind == OUTCOME and entry.index not in aside and entry.index >= below:
                    call = (run, entry.key, segment)
                    outcome = Outcome(call, entry.index, entry.status or 0, entry.value, entry.attempt)
                    found[call].append(outcome)
        return found

    @cached_property
    def told(self) -> dict[str, dict[Call, list[Line]]]:
        """Lines of the witness by event and call, in the order of their writing."""
        found: dict[str, dict[Call, list[Line]]] = defaultdict(lambda: defaultdict(list))
        for line in self.lines:
            if "key" in line:
                found[line["e"]][line["run"], line["key"], line["seg"]].append(line)
        return found

    @cached_property
    def killed_at(self) -> dict[str, float]:
        """When each worker was killed."""
        return {kill.who: kill.t for kill in self.kills if kill.who is not None}

    @cached_property
    def lost_at(self) -> dict[str, list[float]]:
        """When each worker found that its lease was over."""
        found: dict[str, list[float]] = defaultdict(list)
        for line in self.lines:
            if line["e"] == "log" and "lease is over" in line["text"]:
                found[line["who"]].append(line["t"])
        return found

    def interrupted(self, who: str, since: float, until: float) -> bool:
        """Whether this worker was killed, or lost its lease, between two moments."""
        if since <= self.killed_at.get(who, -1.0) <= until:
            return True
        # It may notice later than another worker takes over, when nobody answers it.
        return any(since <= t <= until + self.lease for t in self.lost_at.get(who, ()))

    def server_killed(self, since: float, until: float) -> bool:
        return any(kill.who is None and since <= kill.t <= until for kill in self.kills)


def _set_aside(entries: list[EntryRow]) -> tuple[set[int], int]:
    aside: set[int] = set()
    below = 0
    for entry in entries:
        if entry.kind == SET_ASIDE:
            value = json.loads(entry.value or "{}")
            aside.update(value.get("indexes", ()))
            below = max(below, value.get("below", 0))
    return aside, below
