"""What the checker judges: rows of the database, its audit, lines of the witness, what the clients were told, what was
done to whom. Every time is in seconds of the machine's monotonic clock.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from functools import cached_property
from typing import Any, TypeAlias

import attrs

from tests.chaos.outages import Session as Session
from tests.chaos.outages import Span as Span
from tests.chaos.outages import merged, nobody

OUTCOME, ATTEMPT, ARMED, CHILD, CHECKPOINT, SET_ASIDE = 1, 2, 4, 5, 6, 7
VALUE, FAILURE, SKIPPED = 1, 2, 5
READY, RUNNING, HELD, WAITING = 0, 3, 2, 4
COMPLETED, FAILED, CANCELLED = 7, 8, 9

Call: TypeAlias = tuple[str, str, int]
"""Run, key, segment."""
Line: TypeAlias = dict[str, Any]


@attrs.frozen
class Violation:
    """What contradicts an invariant; `run` is empty when it is of no run."""

    invariant: str
    run: str
    what: str


Found: TypeAlias = Iterator[Violation]


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
    parent_key: str | None = None
    detached: bool = False


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
    at: float = 0.0
    due: float | None = None


@attrs.frozen
class Change:
    """What the audit saw of entries, which may not change, and of rows that were deleted."""

    what: str
    run: str
    before: int | None = None


@attrs.frozen
class RunChange:
    """A run's row came to be (`before` None), or changed its status, its owner, or what it waits for."""

    at: float
    tx: int
    who: str
    run: str
    before: int | None
    status: int
    owner_before: str | None = None
    owner: str | None = None
    claim: int = 0
    recoveries: int = 0
    due: float | None = None
    deadline: float | None = None
    floor: int | None = None
    """Entries below it are of passes that have ended."""


@attrs.frozen
class Write:
    """Entries that one statement inserted."""

    at: float
    tx: int
    who: str
    runs: tuple[str, ...]
    indexes: tuple[int, ...]


@attrs.frozen
class Tick:
    """A schedule came to be, moved to its next time, or was removed (`after` None)."""

    at: float
    tx: int
    target: str
    name: str
    origin: str
    before: float | None
    after: float | None


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
    at: float = 0.0


@attrs.define(slots=False)
class Evidence:
    """All of it. Pure data: nothing here is read anew."""

    starts: list[dict[str, Any]] = attrs.field(factory=list)
    cancels: list[dict[str, Any]] = attrs.field(factory=list)
    orders: list[dict[str, Any]] = attrs.field(factory=list)
    """What an operator was told when he decided about a step."""
    runs: list[RunRow] = attrs.field(factory=list)
    entries: list[EntryRow] = attrs.field(factory=list)
    """Those of earlier passes too, which the engine deletes."""
    ledger: dict[Call, int] = attrs.field(factory=dict)
    changes: list[Change] = attrs.field(factory=list)
    run_changes: list[RunChange] = attrs.field(factory=list)
    writes: list[Write] = attrs.field(factory=list)
    sessions: dict[str, Session] = attrs.field(factory=dict)
    ticks: list[Tick] = attrs.field(factory=list)
    schedules: list[ScheduleRow] = attrs.field(factory=list)
    lines: list[Line] = attrs.field(factory=list)
    kills: list[Kill] = attrs.field(factory=list)
    spans: list[Span] = attrs.field(factory=list)
    stops: list[dict[str, Any]] = attrs.field(factory=list)
    """Graceful stops: `unit`, `t`, `seconds` until it had ended, `code`."""
    left: dict[str, Any] = attrs.field(factory=dict)
    """What the drain and the stop left, by name: numbers that are to be 0."""
    storage: dict[str, Any] = attrs.field(factory=dict)
    """What was found of indexes, constraints and checksums: numbers that are to be 0, or words of what was left out."""
    logs: list[str] = attrs.field(factory=list)
    """What the processes wrote to their standard output and error."""
    shift: float = 0.0
    """What is to be taken from the database's clock to get the monotonic one."""
    secret: str = ""
    """The password of the workers' URL."""
    lease: float = 0.0
    heartbeat: float = 0.0
    poll: float = 0.0
    pace: float = 1.0
    """How much slower everything went than on a machine that has nothing else to do: more than 1 when others use it."""
    quiet_at: float = float("inf")
    """When the drain began: schedules are paused from then on."""

    @cached_property
    def by_id(self) -> dict[str, RunRow]:
        return {row.run: row for row in self.runs}

    @cached_property
    def children(self) -> dict[str, list[RunRow]]:
        found: dict[str, list[RunRow]] = defaultdict(list)
        for row in self.runs:
            if row.parent is not None:
                found[row.parent].append(row)
        return found

    @cached_property
    def cancelled(self) -> set[str]:
        """Runs of which a client asked that they be cancelled, whatever it was told."""
        return {cancel["run"] for cancel in self.cancels if cancel.get("run")}

    @cached_property
    def history(self) -> dict[str, list[EntryRow]]:
        found: dict[str, list[EntryRow]] = defaultdict(list)
        for entry in self.entries:
            found[entry.run].append(entry)
        return found

    @cached_property
    def decided(self) -> set[str]:
        """Runs of which an operator may have decided something."""
        return {order["run"] for order in self.orders if order["said"] != "failed"}

    @cached_property
    def passes(self) -> dict[str, list[tuple[int, float]]]:
        """Of each run that went on as new: which entries each pass began with, and when."""
        found: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for change in self.run_changes:
            floors = found[change.run] if change.floor is not None else []
            if change.floor is not None and (not floors or floors[-1][0] < change.floor):
                floors.append((change.floor, change.at))
        return found

    def segments(self) -> Iterator[tuple[EntryRow, int]]:
        """Each entry that was not set aside with its segment: a checkpoint, or a new pass, begins the next."""
        for run in self.history:
            yield from self.segments_of(run)

    def segments_of(self, run: str) -> Iterator[tuple[EntryRow, int]]:
        entries = self.history.get(run, [])
        aside, below = _set_aside(entries)
        floors = [floor for floor, _ in self.passes.get(run, ())]
        saved = 0
        for entry in entries:
            if entry.kind == CHECKPOINT:
                saved += 1
            elif entry.index not in aside and entry.index >= below:
                yield entry, saved + bisect_right(floors, entry.index)

    @cached_property
    def outcomes(self) -> dict[Call, list[Outcome]]:
        """Every outcome that was not set aside, by its call."""
        found: dict[Call, list[Outcome]] = defaultdict(list)
        for entry, segment in self.segments():
            if entry.kind == OUTCOME:
                call = (entry.run, entry.key, segment)
                found[call].append(Outcome(call, entry.index, entry.status or 0, entry.value, entry.attempt, entry.at))
        return found

    @cached_property
    def told(self) -> dict[str, dict[Call, list[Line]]]:
        """Lines of the witness by event and call, in the order of their writing."""
        found: dict[str, dict[Call, list[Line]]] = defaultdict(lambda: defaultdict(list))
        for line in self.lines:
            if "key" in line:
                found[line["e"]][line["run"], line["key"], line["seg"]].append(line)
        return found

    # who was where

    @cached_property
    def killed_at(self) -> dict[str, float]:
        """When each worker was killed, or killed itself."""
        found = {line["who"]: line["t"] for line in self.lines if line["e"] == "die"}
        return found | {kill.who: kill.t for kill in self.kills if kill.who is not None}

    @cached_property
    def lost_at(self) -> dict[str, list[float]]:
        """When each worker's lease was over: by the database, and when the worker found it."""
        found: dict[str, list[float]] = defaultdict(list)
        for line in self.lines:
            if line["e"] == "log" and "lease is over" in line["text"]:
                found[line["who"]].append(line["t"])
        for session in self.sessions.values():
            if session.dead is not None and session.dead_by != session.who:
                found[session.who].append(session.dead)
        return found

    def interrupted(self, who: str, since: float, until: float) -> bool:
        """Whether this worker was killed, or lost its lease, between two moments."""
        if since <= self.killed_at.get(who, -1.0) <= until:
            return True
        # It may notice later than another worker takes over, when nobody answers it.
        return any(since <= t <= until + self.lease for t in self.lost_at.get(who, ()))

    def woke_too_late(self, line: Line) -> bool:
        """Whether a worker that had been stopped went on before it saw that its lease was over."""
        who, t = line["who"], line["t"]
        stood = self.struck(frozenset({"stop", "stall"}), who, t - 0.5, t)
        return stood and any(t - 60 < lost <= t + 0.5 for lost in self.lost_at.get(who, ()))

    def logged(self, who: str, since: float, until: float) -> list[str]:
        """What the engine warned of in this process between two moments."""
        return [
            f"{line['t']:.3f} {line['text'][:200]}"
            for line in self.lines
            if line["e"] == "log" and line["who"] == who and since <= line["t"] <= until
        ]

    def server_killed(self, since: float, until: float) -> bool:
        return any(kill.who is None and since <= kill.t <= until for kill in self.kills)

    def struck(self, kinds: frozenset[str], who: str | None, since: float, until: float) -> bool:
        """Whether anything of these kinds was so for this worker at any time between two moments."""
        return any(
            span.kind in kinds and span.since <= until and span.until >= since
            for span in self.spans
            if span.who is None or who is None or span.who == who
        )

    @cached_property
    def merged_outages(self) -> list[tuple[float, float]]:
        """When nobody could work: no server, no worker, or no time for anybody; apart and in order."""
        spans = [
            (span.since, span.until) for span in self.spans if span.who is None and span.kind in ("server", "stall")
        ]
        return merged([*spans, *nobody(self.spans, self.sessions.values(), self.killed_at)])

    def outage(self, since: float, until: float) -> float:
        """Seconds between two moments in which nobody could work."""
        spans = self.merged_outages
        place = max(0, bisect_right(spans, (since,)) - 1)
        total = 0.0
        for begin, end in spans[place:]:
            if begin >= until:
                break
            total += max(0.0, min(end, until) - max(begin, since))
        return total

    # who owned what

    @cached_property
    def changes_of(self) -> dict[str, list[RunChange]]:
        """The changes of each run, in the order in which they became true."""
        found: dict[str, list[RunChange]] = defaultdict(list)
        for change in self.run_changes:
            found[change.run].append(change)
        return found

    def owner(self, run: str, at: float, tx: int = 0) -> Session | None:
        """Whose the run was just before `at`; what the transaction `tx` itself changed does not count."""
        found = None
        for change in self.changes_of.get(run, ()):
            if change.at > at:
                break
            if change.tx != tx or change.owner_before is None:
                found = change.owner
        return None if found is None else self.sessions.get(found)


def _set_aside(entries: list[EntryRow]) -> tuple[set[int], int]:
    aside: set[int] = set()
    below = 0
    for entry in entries:
        if entry.kind == SET_ASIDE:
            value = json.loads(entry.value or "{}")
            aside.update(value.get("indexes", ()))
            below = max(below, value.get("below", 0))
    return aside, below
