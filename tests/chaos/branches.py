"""The invariants of what goes several ways: I21 branches, I22 undone."""

from __future__ import annotations

from collections import defaultdict

from tests.chaos.evidence import (
    CANCELLED,
    COMPLETED,
    FAILED,
    OUTCOME,
    SKIPPED,
    VALUE,
    Call,
    EntryRow,
    Evidence,
    Found,
    Line,
    RunRow,
    Violation,
)

LATE = 0.05
"""Seconds by which the clocks of the database and of the machine, as they were compared once, may be apart."""
UNDOES = ("hotel", "flight", "gather/0/car")
"""Of `trip`: keys with a compensation that belong to the whole run."""
PART = "saga/rail"
"""The one that belongs to a part, which fails in any case."""


def branches(evidence: Evidence) -> Found:
    """I21: what has its outcome is not called any more, nor is what was skipped; of a race the first one won."""
    skipped = {(entry.run, entry.key) for entry in evidence.entries if entry.status == SKIPPED}
    for call, lines in evidence.told["enter"].items():
        if call[:2] in skipped:
            yield Violation("I21", call[0], f"{call[1]} was skipped, and was called")
        stored = evidence.outcomes.get(call)
        if stored is not None:
            for line in lines:
                yield from _called_late(evidence, call, stored[0].at, line)
    yield from _races(evidence)


def _called_late(evidence: Evidence, call: Call, at: float, line: Line) -> Found:
    if line["t"] > at + LATE and not evidence.woke_too_late(line):
        late = line["t"] - at
        yield Violation("I21", call[0], f"{line['who']} called {call[1]} {late:.3f} s after its outcome was stored")


def _races(evidence: Evidence) -> Found:
    for row in evidence.runs:
        if row.name != "raced" or row.status != COMPLETED:
            continue
        for key, said in (("race", "first"), ("race#2", "second")):
            ends = [entry for entry in evidence.history[row.run] if _may_win(entry, key)]
            first = min(ends, key=lambda entry: entry.index, default=None)
            won = row.output[said][0]
            if first is None or first.key.split("/")[1] != won:
                what = None if first is None else first.key
                yield Violation("I21", row.run, f"{won} won {key}, and the first outcome is that of {what}")
            yield from _losers(evidence, row, key, won)


def _may_win(entry: EntryRow, race: str) -> bool:
    """Whether a branch ends with this outcome."""
    at, _, rest = entry.key.partition("/")
    last = rest.startswith("flow/") and not rest.endswith("/add_async")
    return at == race and entry.kind == OUTCOME and entry.status == VALUE and not last


def _losers(evidence: Evidence, row: RunRow, race: str, won: str) -> Found:
    """Children of branches that lost end soon, whatever they were to do."""
    over = min((line["t"] for line in evidence.told["sent"].get((row.run, race, 0), ())), default=float("inf"))
    for kid in evidence.children.get(row.run, ()):
        at, _, branch = (kid.parent_key or "").partition("/")
        if at != race or branch.startswith(f"{won}/"):
            continue
        begun = [line["t"] for (run, *_), lines in evidence.told["enter"].items() if run == kid.run for line in lines]
        for t in begun:
            if t - over - evidence.outage(over, t) > 2 * evidence.lease + 3.0 * evidence.pace:
                yield Violation("I21", kid.run, f"it went on for {t - over:.1f} s after its branch had lost {race}")


def undone(evidence: Evidence) -> Found:
    """I22: what succeeded is undone once, the latest first, when its run fails or is cancelled, and else not."""
    ends: dict[str, dict[str, EntryRow]] = defaultdict(dict)
    for entry in evidence.entries:
        if entry.kind == OUTCOME and entry.status == VALUE:
            if entry.key in ends[entry.run] and entry.key.endswith("#undo"):
                yield Violation("I22", entry.run, f"{entry.key} has two outcomes")
            ends[entry.run][entry.key] = entry
    for row in evidence.runs:
        if row.name == "trip":
            yield from _of_trip(row, ends[row.run])


def _of_trip(row: RunRow, ends: dict[str, EntryRow]) -> Found:
    if row.status == FAILED and row.error["type"] == "PoisonRun":
        return  # its handler is not asked
    fell = row.status in (FAILED, CANCELLED)
    done = sorted((ends[key] for key in UNDOES if key in ends), key=lambda entry: entry.index)
    wanted = [f"{entry.key}#undo" for entry in reversed(done)] if fell else []
    found = sorted((ends[f"{key}#undo"] for key in UNDOES if f"{key}#undo" in ends), key=lambda entry: entry.index)
    if [entry.key for entry in found] != wanted:
        yield Violation("I22", row.run, f"{[entry.key for entry in found]} were undone in this order, not {wanted}")
    if (PART in ends) is not (f"{PART}#undo" in ends):
        yield Violation("I22", row.run, f"{PART} was {'not ' if PART in ends else ''}undone")
    if found and f"{PART}#undo" in ends and ends[f"{PART}#undo"].index > found[0].index:
        yield Violation("I22", row.run, f"{PART} was undone after what was done before it")
