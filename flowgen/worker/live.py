"""A live run: a run that this session owns, its execution, and what is to be committed of it next.

The part of a run that waits for a commit only grows until the committer takes it; at most one part of a run is on its
way at any time, so that its history grows in one order. Indexes are given when a part is taken.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from itertools import compress, takewhile
from uuid import UUID

import attrs

from flowgen.core.decision import Decision
from flowgen.core.entries import Entry, EntryKind
from flowgen.core.interpreter import Execution
from flowgen.postgres.effects import Effect, Quitting, Unwanted
from flowgen.postgres.rows import ClaimedRun, NewRun, RunAction, RunUpdate, ScheduleChange
from flowgen.worker import saying
from flowgen.worker.executor import RunningCall
from flowgen.worker.saying import Said

__all__ = ["AT_MOST", "STAYS", "LiveRun", "Part"]

AT_MOST = 500
"""Entries of one run in one commit; the rest of a wide Gather follows in the next ones."""

STAYS = frozenset({RunAction.CHECKPOINT, RunAction.SET})
"""Updates after which the run is still this session's."""


@attrs.define(eq=False)
class Part:
    """What one commit holds of one run."""

    run: LiveRun
    entries: Sequence[Entry]
    children: Sequence[NewRun] = ()
    schedules: Sequence[ScheduleChange] = ()
    consumed: Sequence[int] = ()
    effects: Sequence[Effect] = ()
    update: RunUpdate | None = None
    told: int = 0
    """How many of the entries, from the first, the handler was told of already."""
    closed: Sequence[Entry] = ()
    """What it was told of too, and the part's own checkpoint closes: nobody would read it, so it is not stored."""
    sealed: Part | None = None
    """The same as it is stored, when there is a codec."""


@attrs.define(eq=False)
class LiveRun:
    """One owned run. Only the event loop's thread touches it."""

    claimed: ClaimedRun
    execution: Execution
    next_index: int
    mail_read: int
    entries: list[Entry] = attrs.field(factory=list)
    told: int = 0
    """How many of `entries`, from the first, the handler was told of already."""
    timed: bool = False
    """A timer will have what was told committed."""
    apart: int = 0
    """Transactions, signals and children with an author's id that wait to be committed on other connections."""
    children: list[NewRun] = attrs.field(factory=list)
    schedules: list[ScheduleChange] = attrs.field(factory=list)
    consumed: list[int] = attrs.field(factory=list)
    effects: list[Effect] = attrs.field(factory=list)
    """What goes into the store beside entries; it goes with the next of these, or with the update."""
    said: Said | None = None
    """What it says beside its history."""
    prologue: int | None = None
    """Set while a CHECKPOINT entry is among `entries`."""
    update: RunUpdate | None = None
    sending: bool = False
    marked: bool = False
    """It stands in the committer's queue."""
    gone: bool = False
    """Its last part is on its way, or it was dropped: nothing new of it counts."""
    leaving: bool = False
    """An update that gives the run away is on its way: what comes meanwhile is the next owner's."""
    stopping: RunAction | None = None
    """RELEASE or PAUSE, as soon as no call is in flight."""
    skips: int = 0
    """How often its part was left out because a row was locked."""
    decisions: list[Decision] = attrs.field(factory=list)
    """What is to be carried out, in order."""
    calls: dict[str, RunningCall] = attrs.field(factory=dict)
    armed: datetime | None = None
    """When its next timer here fires."""

    run_id: UUID = attrs.field(init=False)
    is_ahead: bool = attrs.field(init=False)
    """Outcomes of its steps may be told before they are committed."""

    def __attrs_post_init__(self) -> None:
        self.run_id = self.claimed.run_id
        self.is_ahead = self.execution.definition.options.durability == "checkpoint"

    def say(self, warnings: Sequence[str], log: logging.Logger) -> None:
        """Log what is to be told of it."""
        for warning in warnings:
            log.warning("%s (%s): %s", self.claimed.name, self.claimed.id or self.run_id, warning)

    def claimed_again(self, claimed: ClaimedRun) -> None:
        """Its execution goes on where it waited, under a new claim."""
        self.claimed = claimed
        self.mail_read = claimed.mail
        self.execution.deadline = claimed.deadline
        self.said = None
        self.execution.facts.resumed = True
        self.execution.facts.attempt = claimed.attempt
        self.gone = self.leaving = self.sending = False
        self.armed = None
        self.decisions.clear()

    @property
    def deadline(self) -> datetime | None:
        return self.execution.deadline

    @property
    def dirty(self) -> bool:
        """Whether something of it is to be committed."""
        return bool(self.entries) or self.update is not None or (self.said is not None and self.said.due)

    @property
    def behind(self) -> bool:
        """Whether a part is on its way, or the handler knows more than the store: nothing is committed beside that."""
        return self.sending or self.told > 0

    @property
    def waits(self) -> bool:
        """Whether its handler waits for a commit of what there is."""
        return len(self.entries) > self.told or self.update is not None

    def is_whole_with(self, part: Part) -> bool:
        """Whether the store knows all that is to be known of the run, now that it has this part."""
        begun = any(entry.kind == EntryKind.STARTED for entry in part.entries)  # its call is to be made here
        return bool(part.entries) and not (begun or self.calls or self.dirty or self.decisions)

    def take(self) -> Part:
        """What is to be committed now, with its indexes. The caller sends it, and nothing else of this run."""
        if len(self.entries) > AT_MOST and self.prologue is None:
            return self._take_some()
        entries, update = self.entries, self.update
        for entry in entries:
            entry.index = self.next_index
            self.next_index += 1
        self.sending = True
        told, self.told = self.told, 0
        if update is not None and update.action == RunAction.CONTINUE:
            last = entries[-1] if entries and entries[-1].kind == EntryKind.PASS else None
            update = attrs.evolve(update, base=self.next_index if last is None else last.index)
        if self.said is not None:
            update = saying.take(self, update)
        past: Sequence[Entry] = ()
        beside = self.children or self.schedules or self.consumed or self.effects
        if update is None and self.prologue is None and not beside:
            self.entries = []
            return Part(self, entries, told=told)
        if self.prologue is not None:
            base = next(entry.index for entry in entries if entry.kind == EntryKind.CHECKPOINT)
            if update is None:
                update = RunUpdate(run_id=self.run_id, claim=self.claimed.claim, action=RunAction.CHECKPOINT)
            closed = max(self.execution.base, self.prologue, self.claimed.floor)
            update = attrs.evolve(update, base=base, prologue=self.prologue, closed=closed)
            if told:
                past = [entry for entry in entries[:told] if entry.index >= closed and not entry.named]
                kept = [entry for entry in entries[:told] if entry.index < closed or entry.named]
                entries, told = [*kept, *entries[told:]], len(kept)
        part = Part(self, entries, self.children, self.schedules, self.consumed, self.effects, update, told, past)
        self.entries, self.children, self.schedules, self.consumed, self.effects = [], [], [], [], []
        self.update = self.prologue = None
        self.leaving = update is not None and update.action not in STAYS
        return part

    def _take_some(self) -> Part:
        """The first entries, with the rows that must stand beside them. What ends or frees the run comes last.

        So do the letters that were read: one that is still there after its entry is read by nobody.
        """
        entries, self.entries = self.entries[:AT_MOST], self.entries[AT_MOST:]
        keys = {entry.key for entry in entries}
        # Children stand in the order of their entries: a wide Gather's are not looked through with each part.
        children = list(takewhile(lambda child: child.parent_key in keys, self.children))
        self.children = self.children[len(children) :]
        schedules, self.schedules = self.schedules, []
        now = [
            isinstance(each, Unwanted) or (each.key in keys and not isinstance(each, Quitting)) for each in self.effects
        ]
        effects = list(compress(self.effects, now))
        self.effects = [each for each, taken in zip(self.effects, now, strict=True) if not taken]
        for entry in entries:
            entry.index = self.next_index
            self.next_index += 1
        self.sending = True
        told = min(self.told, len(entries))
        self.told -= told
        update = saying.take(self, None, keys)
        return Part(self, entries, children, schedules, effects=effects, update=update, told=told)
