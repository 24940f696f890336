"""The witness: is told of each write, each delivery and each call, and says at once what must never be.

It changes nothing and trusts nobody: what it knows of the past is its own note. The ids are those of the invariants in
`INVARIANTS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from flowgen.core.entries import Entry, EntryKind, OutcomeKind
from flowgen.core.failures import failure_from_json
from flowgen.core.states import FINAL, Status
from flowgen.testing.simulated import Called

if TYPE_CHECKING:
    from flowgen.testing.simulation.row import Row
    from flowgen.worker.live import LiveRun

__all__ = ["INVARIANTS", "Violated", "Witness"]

INVARIANTS: Final = {
    "I2": "every run comes to its end, once",
    "I3": "the result is that of a run which nothing disturbed, and no trouble of the engine's is a step's outcome",
    "I4": "an outcome is recorded once and never changes",
    "I5": "what a handler is sent is what is recorded",
    "I6": "a Transaction takes effect once when its outcome is recorded, else never",
    "I7": "a function is called at least once for its outcome, and again only after an interruption",
    "I8": "at_most_once: an attempt is begun at most once",
    "I9": "no wait ends early, and its due time never moves",
    "I11": "no session writes after it was dead",
    "I12": "a run has one owner at a time",
    "I13": "a command starts one child, and its parent sees just what that came to",
    "I14": "a worker that is lost counts as a recovery of its runs",
    "I18": "a replay of the history ends where the run ended",
    "I19": "no agent of a worker ends with an error",
    "invariant": "what the test asks for",
}

_ENGINE = frozenset({"DatabaseError", "LeaseLost"})
_FAILED = (EntryKind.ATTEMPT, EntryKind.OUTCOME)


class Violated(Exception):
    """An invariant does not hold."""

    def __init__(self, id: str, text: str) -> None:
        super().__init__(f"{id} ({INVARIANTS[id]}): {text}")
        self.id = id
        self.text = text


def _fact(entry: Entry) -> tuple[Any, ...]:
    return (entry.kind, entry.key, entry.fingerprint, entry.status, entry.attempt, entry.value, entry.due_at)


class Witness:
    """What was seen in one schedule."""

    def __init__(self) -> None:
        self.calls: list[Called] = []
        """Functions that were called, in their order."""
        self.effects: list[tuple[UUID, str]] = []
        """Transactions that took effect: run and key."""
        self.dead: set[UUID] = set()
        self.interruptions = 0
        self._facts: dict[tuple[UUID, int], tuple[Any, ...]] = {}
        self._ahead: dict[tuple[UUID, int, int], tuple[Any, ...]] = {}
        """What owners told before it was recorded: by run, claim and index."""
        self._owners: dict[UUID, UUID] = {}
        self._lost: dict[UUID, int] = {}
        self._begun: set[tuple[UUID, tuple[int, int], str, int, int]] = set()

    # the store

    def died(self, session: UUID) -> None:
        self.dead.add(session)
        self.interruptions += 1

    def wrote(self, row: Row, entry: Entry, session: UUID) -> None:
        """An entry was inserted."""
        if session in self.dead:
            raise Violated("I11", f"a dead session wrote entry {entry.index} ({entry.key!r}) of {row.new.name}")
        if row.owner != session:
            raise Violated("I12", f"entry {entry.index} ({entry.key!r}) of {row.new.name} was written by another owner")
        place = row.run_id, entry.index
        if place in self._facts:
            raise Violated("I4", f"entry {entry.index} ({entry.key!r}) of {row.new.name} was written twice")
        self._facts[place] = _fact(entry)
        if self._ahead.get((row.run_id, row.claim, entry.index), self._facts[place]) != self._facts[place]:
            raise Violated("I5", f"entry {entry.index} ({entry.key!r}) of {row.new.name} is not what was told before")
        self._lost[row.run_id] = 0
        if entry.kind == EntryKind.OUTCOME or entry.kind == EntryKind.ATTEMPT:
            self._check_outcome(row, entry)

    def _check_outcome(self, row: Row, entry: Entry) -> None:
        failed = entry.kind == EntryKind.ATTEMPT or entry.status == OutcomeKind.FAILURE
        if failed and failure_from_json(entry.value or "{}").type in _ENGINE:
            raise Violated("I3", f"{entry.key!r} of {row.new.name} is recorded with an error of the engine's own")
        timed = entry.status == OutcomeKind.TIMEOUT or (entry.fingerprint or "").startswith("sleep:")
        if timed and entry.kind == EntryKind.OUTCOME and entry.recorded_at is not None:
            due_at = row.due_of(entry.key)
            if due_at is not None and entry.recorded_at < due_at:
                raise Violated("I9", f"{entry.key!r} of {row.new.name} ended before it was due")

    def moved(self, row: Row, status: Status, owner: UUID | None) -> None:
        """The run changes its status, or its owner."""
        if row.status in FINAL:
            raise Violated("I2", f"{row.new.name} had ended as {row.status.name} and went on as {status.name}")
        before = self._owners.pop(row.run_id, None)
        if owner is None:
            return
        if before is not None and before not in self.dead and before != owner:
            raise Violated("I12", f"{row.new.name} was claimed while another session owned it")
        if row.recoveries < self._lost.get(row.run_id, 0):
            raise Violated("I14", f"{row.new.name} lost its worker without a recovery being counted")
        self._owners[row.run_id] = owner

    def lost(self, row: Row, *, charged: bool = True) -> None:
        """The run is taken from its owner; `charged`: it may have been what its owner died of."""
        if row.owner not in self.dead:
            raise Violated("I12", f"{row.new.name} was taken from a session that lives")
        self._lost[row.run_id] = self._lost.get(row.run_id, 0) + charged

    def excused(self, row: Row) -> None:
        """What was counted for an owner that lived is taken back."""
        self._lost[row.run_id] = max(self._lost.get(row.run_id, 0) - 1, 0)

    def progressed(self, row: Row) -> None:
        """Recoveries count from here on."""
        self._lost[row.run_id] = 0

    # the workers

    def delivered(self, run: LiveRun, entries: Sequence[Entry]) -> None:
        """Entries go into the handler."""
        for entry in entries:
            fact = self._facts.get((run.run_id, entry.index))
            if fact is None and run.is_ahead and (entry.fingerprint or "").startswith("step:"):
                self._ahead[run.run_id, run.claimed.claim, entry.index] = fact = _fact(entry)
            if fact != _fact(entry):
                raise Violated(
                    "I5",
                    f"{run.claimed.name} was told of {entry.key!r} at {entry.index} what is not recorded there",
                )

    def waits(self, row: Row, key: str, due_at: datetime, own: Sequence[object]) -> None:
        """A command waits for a time."""
        if due_at not in row.dues and due_at not in own:
            raise Violated("I9", f"{key!r} of {row.new.name} waits for a time that is not recorded: {due_at}")

    def begins(self, row: Row, called: Called, *, at_most_once: bool, again: bool, owner: bool) -> None:
        """A function is about to be called. `again`: the engine may call it anew in the same attempt and claim."""
        place = called.run_id, called.place, called.key, called.attempt, called.claim
        if place in self._begun and not again:
            raise Violated("I7", f"{called.key!r} of {called.run} was called twice in one attempt of one owner")
        if at_most_once and any(each[:4] == place[:4] for each in self._begun):
            raise Violated("I8", f"attempt {called.attempt} of {called.key!r} of {called.run} was begun twice")
        if owner and row.outcome_of(called.key) is not None:
            raise Violated("I7", f"{called.key!r} of {called.run} was called although its outcome is recorded")
        self._begun.add(place)
        self.calls.append(called)

    def check_unchanged(self, row: Row) -> None:
        """Every entry is as it was written."""
        for entry in row.entries:
            if self._facts[row.run_id, entry.index] != _fact(entry):
                raise Violated("I4", f"entry {entry.index} ({entry.key!r}) of {row.new.name} was changed")
        kept = sum(run_id == row.run_id for run_id, _ in self._facts)
        if kept != len(row.entries):
            raise Violated("I4", f"{row.new.name} has {len(row.entries)} entries, {kept} were written")
