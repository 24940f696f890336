"""The entries of one run, sorted for replay: what is delivered in order, what is kept aside, what is state.

Replay is nothing but delivering the history in the order of its indexes, one entry after the other, as the live object
was given them. Entries that were set aside are left out; outcomes that the author named survive their segment.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

import attrs

from flowgen.core import codec
from flowgen.core.context import Saved
from flowgen.core.entries import Entry, EntryKind

__all__ = ["CommandState", "History", "long_history", "saved_of", "set_aside_value"]


@attrs.define
class CommandState:
    """What is recorded of a command that has no outcome yet."""

    attempts: int = 0
    """Failed attempts."""
    not_before: datetime | None = None
    started: int = 0
    """Number of the at-most-once attempt that was begun."""
    started_before: bool = False
    """It was begun by an earlier owner, who is gone."""
    armed_at: datetime | None = None
    armed: bool = False
    armed_before: bool = False
    """It was armed before this replay."""
    child: str | None = None
    """The run_id of the child that was made."""
    indexes: tuple[int, ...] = ()
    """Of the entries that were taken in: they go when the outcome is set aside."""

    def note(self, entry: Entry, replayed: bool) -> None:
        """Take in an entry that is not an outcome."""
        self.indexes += (entry.index,)
        match entry.kind:
            case EntryKind.ATTEMPT:
                self.attempts = entry.attempt or self.attempts + 1
                self.not_before = entry.due_at
                self.started_before = False
            case EntryKind.STARTED:
                self.started = entry.attempt or 1
                self.started_before = replayed
            case EntryKind.ARMED:
                self.armed_at = entry.due_at
                self.armed, self.armed_before = True, replayed
            case EntryKind.CHILD:
                self.child = (entry.value or "").strip('"')
                self.armed_at = entry.due_at


@attrs.define
class History:
    """What a new execution starts from."""

    ordered: list[Entry]
    """To be delivered one by one."""
    kept: list[Entry]
    """Outcomes that the author named, of closed segments: they answer whenever their key is asked for."""
    saved: Saved | None
    """The checkpoint that opened the current segment."""
    base: int
    """Index of the checkpoint that opened the current segment; 0 when there is none."""
    prologue: int
    """Entries below it are the prologue; 0 when there is no checkpoint."""
    next_index: int
    saved_at: datetime | None = None
    """When that checkpoint was recorded."""
    strict_until: int | None = None
    """Outcomes below it must be asked for in their order; None: all. A segment that starts in mid-loop, and a history
    that was edited by setting aside, have outcomes that nobody asks for."""
    ended: bool = False
    """It is the history of a run that completed: nothing was left to come."""

    passed: Entry | None = None
    """What the passes before this one have left."""

    @property
    def heard(self) -> dict[str, datetime] | None:
        """The places of the events that the handler was given before that checkpoint, and in the passes before."""
        if self.saved is not None and self.saved.heard:
            heard = self.saved.heard
        elif self.passed is not None:
            heard = codec.decode(self.passed.value or "{}")
        else:
            return None
        return {each: datetime.fromisoformat(place) for each, place in heard.items()}

    @classmethod
    def of(
        cls, entries: Sequence[Entry], *, base: int = 0, prologue: int = 0, next_index: int | None = None
    ) -> History:
        """Sort the entries of a run, in index order, for replay. `base` 0 means that there is no checkpoint."""
        if not entries and not base:
            return cls([], [], None, 0, 0, max(next_index or 1, 1))
        if not base and all(entry.kind < EntryKind.CHECKPOINT for entry in entries):
            last = entries[-1].index + 1 if next_index is None else next_index
            return cls(list(entries), [], None, 0, 0, max(last, 1))
        aside, below = _set_aside(entries)
        if base < below:
            base = prologue = 0
        ordered: list[Entry] = []
        kept: list[Entry] = []
        saved: Saved | None = None
        saved_at: datetime | None = None
        passed: Entry | None = None
        for entry in entries:
            if entry.kind == EntryKind.PASS:
                passed = entry
            elif entry.kind == EntryKind.SET_ASIDE or entry.index in aside or entry.index < below:
                continue
            elif entry.kind == EntryKind.CHECKPOINT:
                if entry.index == base:
                    saved, saved_at = saved_of(entry), entry.recorded_at
            elif entry.index < prologue or entry.index >= base or not base:
                ordered.append(entry)
            elif entry.named and entry.kind == EntryKind.OUTCOME:
                kept.append(entry)
        if saved is not None and saved.lost:
            kept = [entry for entry in kept if entry.key not in saved.lost]
        if next_index is None:
            next_index = entries[-1].index + 1 if entries else 1
        bounds = [index for index in aside if index >= below]
        if base:
            bounds.append(prologue)
        strict_until = min(bounds, default=None)
        return cls(ordered, kept, saved, base, prologue, max(next_index, 1), saved_at, strict_until, passed=passed)


def _set_aside(entries: Sequence[Entry]) -> tuple[set[int], int]:
    """The indexes that were set aside, and below which index everything was."""
    aside: set[int] = set()
    below = 0
    for entry in entries:
        if entry.kind == EntryKind.SET_ASIDE:
            value = json.loads(entry.value or "{}")
            aside.update(value.get("indexes", ()))
            below = max(below, value.get("below", 0))
    return aside, below


def saved_of(entry: Entry) -> Saved:
    """What a CHECKPOINT entry saved."""
    cursor, items_processed, accumulated, *rest = codec.decode(entry.value or "[null, null, null]")
    return Saved(cursor, items_processed or 0, accumulated, *rest)


def set_aside_value(indexes: Sequence[int], why: str, who: str, *, below: int = 0) -> str:
    """The value of a SET_ASIDE entry: these indexes, and all below `below`, answer no longer."""
    value: dict[str, object] = {"indexes": list(indexes), "why": why, "who": who}
    if below:
        value["below"] = below
    return json.dumps(value)


def long_history(entries: int) -> str:
    """The warning of a history that has become long."""
    return (
        f"{entries} entries are in its history, and each start of its handler replays them: save a Checkpoint with "
        "data in its loop, or go on in another run, Start(...).opts(detached=True)"
    )
