"""One run as the store has it: its row, its history, its inbox."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import attrs

from flowgen.core.entries import Entry, EntryKind, Message
from flowgen.core.states import Status
from flowgen.postgres.rows import ClaimedRun, NewRun

__all__ = ["Row"]


@attrs.define(eq=False)
class Row:
    """One run."""

    new: NewRun
    """As it was started, with the input of its last pass."""
    created_at: datetime
    """When its pass began."""
    due_at: datetime | None
    status: Status = Status.READY
    owner: UUID | None = None
    claim: int = 0
    attempt: int = 1
    recoveries: int = 0
    recovered_index: int = -1
    floors: list[int] = attrs.field(factory=lambda: [0])
    """Where its passes began."""
    prologues: dict[int, int] = attrs.field(factory=dict)
    """Where the prologue of each pass ended, by where the pass began."""
    base: int = 0
    prologue: int = 0
    mail: int = 0
    seen: int = 0
    wake_at_mail: int = 0
    request: int = 0
    reason: str | None = None
    deadline: datetime | None = None
    started: bool = False
    cascade: bool = False
    unwanted: bool = False
    """Its parent's commit notes that it is to be cancelled."""
    output: str | None = None
    error: str | None = None
    progress: str | None = None
    entries: list[Entry] = attrs.field(factory=list)
    indexes: set[int] = attrs.field(factory=set)
    dues: set[datetime] = attrs.field(factory=set)
    """Every time that an entry is due at."""
    inbox: dict[int, Message] = attrs.field(factory=dict)
    waiters: list[tuple[UUID, str]] = attrs.field(factory=list)
    run_id: UUID = attrs.field(init=False)
    began_at: datetime = attrs.field(init=False)
    first_input: str = attrs.field(init=False)
    """Of its first pass: what is compared with that of a child with its id."""

    def __attrs_post_init__(self) -> None:
        self.run_id = self.new.run_id
        self.began_at = self.created_at
        self.first_input = self.new.input

    @property
    def floor(self) -> int:
        """Entries below it are of earlier passes."""
        return self.floors[-1]

    @property
    def current(self) -> list[Entry]:
        """The entries of this pass."""
        return [entry for entry in self.entries if entry.index >= self.floor]

    @property
    def last_index(self) -> int:
        return self.entries[-1].index if self.entries else -1

    def add(self, entry: Entry) -> None:
        """One more fact."""
        self.entries.append(entry)
        self.indexes.add(entry.index)
        if entry.due_at is not None:
            self.dues.add(entry.due_at)

    def outcome_of(self, key: str) -> Entry | None:
        """The outcome that answers this key now; None also when some of the history was set aside."""
        found: Entry | None = None
        for entry in self.entries:
            if entry.kind == EntryKind.SET_ASIDE:
                found = None
            elif entry.key == key and entry.kind == EntryKind.OUTCOME and self._answers(entry):
                found = entry
        return found

    def due_of(self, key: str) -> datetime | None:
        """When the command of this key is due, by the latest entry that says so."""
        for entry in reversed(self.entries[:-1]):
            if entry.key == key and self._answers(entry):
                return entry.due_at
        return None

    def place_of(self, key: str, base: int, claimed: int) -> tuple[int, int]:
        """The segment of the command that has this key, and how often something was set aside before it.

        `base` is the segment of its worker, which may be long over; below `claimed` is what that worker has claimed.
        """
        in_prologue = any(entry.key == key and entry.index < self.prologue for entry in self.current)
        aside = sum(entry.kind == EntryKind.SET_ASIDE and entry.index < claimed for entry in self.entries)
        return 0 if in_prologue else base, aside

    def _answers(self, entry: Entry) -> bool:
        answers = not self.base or entry.index >= self.base or entry.index < self.prologue
        return answers and entry.index >= self.floor

    def letter(self, status: Status) -> str:
        """What its parent is told of its end, in the order of parts in which the real store writes it."""
        part, value = ("output", self.output) if status == Status.COMPLETED else ("error", self.error)
        return f'{{"status":"{status.name.lower()}","{part}":{value or "null"},"run_id":"{self.run_id}"}}'

    def claimed(self, after: int, partial: bool) -> ClaimedRun:
        """What the claimer is given: what it does not know yet."""
        new, base, prologue = self.new, self.base, self.prologue
        entries = [
            each
            for each in self.entries
            if each.index > max(after, self.floor - 1) and (each.index < prologue or each.index >= base or each.named)
        ]
        return ClaimedRun(
            run_id=self.run_id,
            id=new.id,
            name=new.name,
            kind=new.kind,
            queue=new.queue,
            priority=new.priority,
            claim=self.claim,
            attempt=self.attempt,
            recoveries=self.recoveries,
            input=new.input,
            correlation_id=new.correlation_id,
            parent_correlation_id=new.parent_correlation_id,
            parent_id=new.parent_id,
            parent_key=new.parent_key,
            root_id=new.root_id or self.run_id,
            depth=new.depth,
            trigger=new.trigger,
            deadline=self.deadline,
            created_at=self.created_at,
            mail=self.mail,
            request=self.request,
            reason=self.reason,
            base=base,
            prologue=prologue,
            next_index=max(self.last_index + 1, self.floor),
            floor=self.floor,
            entries=entries,
            partial=partial,
            inbox=list(self.inbox.values()),
        )
