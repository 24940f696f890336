"""What goes into the store and comes out of it, as plain values; no statement and no connection.

JSON travels as text (`str`) both ways, exactly as the codec made it. Nobody changes a value that was made; those that
are made for every run are `@define` all the same, which costs a fifth of what `@frozen` costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import IntEnum
from uuid import UUID

import attrs

from flowgen.core.entries import Entry, Message
from flowgen.postgres.effects import Effect

__all__ = [
    "NO_DEADLINE",
    "Claimed",
    "ClaimedRun",
    "Ended",
    "FlushBatch",
    "FlushResult",
    "Have",
    "Letter",
    "NewRun",
    "Owned",
    "RunAction",
    "RunRow",
    "RunUpdate",
    "ScheduleChange",
    "ScheduleRow",
    "Session",
    "TriggerRow",
]


@attrs.frozen
class Session:
    """A worker's registration: what every one of its writes is fenced by."""

    id: UUID
    epoch: int


@attrs.define(kw_only=True)
class NewRun:
    """A run to insert. `run_id` is made by the caller: a UUIDv7, or derived from `id`."""

    run_id: UUID
    id: str | None = None
    """The caller's string."""
    name: str
    kind: str
    """`RunKind`."""
    queue: str = "default"
    priority: int = 0
    """Higher first."""
    input: str = "{}"
    """JSON text: an object of bound arguments by parameter name, or `[args, kwargs]` when the signature is unknown."""
    delay: timedelta | None = None
    at: datetime | None = None
    deadline: timedelta | None = None
    """Relative to the start by the database's clock."""
    tags: tuple[str, ...] = ()
    correlation_id: str | None = None
    parent_correlation_id: str | None = None
    parent_id: UUID | None = None
    parent_key: str | None = None
    root_id: UUID | None = None
    """None for a root: the run itself."""
    depth: int = 0
    detached: bool = False
    trigger: str | None = None
    """JSON text, or None for a plain call."""
    owned: bool = False
    """Of a flush: insert it as already owned by this session, when nothing holds it back (see `adopted`)."""


@attrs.frozen(kw_only=True)
class RunRow:
    """A run as a client reads it."""

    run_id: UUID
    id: str | None
    name: str
    kind: str
    status: int
    """`Status`."""
    queue: str
    priority: int
    input: str
    output: str | None
    error: str | None
    """JSON of a Failure; of a cancelled run `{"reason": ...}`; of a parked one `{"reason": ..., "detail": ...}`."""
    attempt: int
    recoveries: int
    parent_id: UUID | None
    root_id: UUID
    correlation_id: str | None
    parent_correlation_id: str | None
    tags: tuple[str, ...]
    trigger: str | None
    progress: str | None
    progress_at: datetime | None
    reports: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    due_at: datetime | None
    deadline: datetime | None
    owner: UUID | None
    request: int
    mail: int
    first_input: str | None = None
    """Of one that went on as new: the input of its first pass, as it is stored."""


@attrs.define(kw_only=True)
class ClaimedRun:
    """A run that this session owns from now on, with what it needs to go on."""

    run_id: UUID
    id: str | None
    name: str
    kind: str
    queue: str
    priority: int
    claim: int
    """Grows with every claim; rows of an end or hang-up are guarded by it."""
    attempt: int
    """Of the run, from 1."""
    recoveries: int
    input: str
    correlation_id: str | None
    parent_correlation_id: str | None
    parent_id: UUID | None
    parent_key: str | None
    root_id: UUID
    depth: int
    trigger: str | None
    deadline: datetime | None
    created_at: datetime
    mail: int
    """The run's mail counter in the snapshot in which `inbox` was read."""
    request: int
    """`Request`."""
    reason: str | None
    """Of the request."""
    base: int
    """Index of the checkpoint that opened the current segment; 0 when there is none."""
    prologue: int
    """Entries below it are the prologue."""
    next_index: int
    entries: Sequence[Entry] | None
    """In index order. None when the history is too large for the claim: read it with `entries.page`."""
    floor: int = 0  # what is below it is of earlier passes
    partial: bool = False
    """True when `entries` holds only what is newer than the cache of the claimer had."""
    inbox: Sequence[Message] = ()
    victims: Sequence[str] = ()
    """Of one that is not tried again: the workers that ended with it."""
    unreadable: str | None = None
    """Why its history or its inbox cannot be read."""


@attrs.frozen
class Have:
    """What the claimer's cache holds of a run: answered with what is newer when `claim` is the last one."""

    run_id: UUID
    claim: int
    index: int
    """Highest index that the cached object knows."""


@attrs.frozen(kw_only=True)
class Claimed:
    """What a claim came to."""

    runs: Sequence[ClaimedRun]
    busy: bool
    """Another worker holds the queue's claim lock: try again in 2 to 10 ms. Not the same as empty."""
    fenced: bool
    """The session's lease is over: register anew."""
    now: datetime
    next_due_at: datetime | None
    """Earliest due time among delayed and waiting runs, for the timer of the next promotion."""
    suspects: int = 0
    """Ready runs that were recovered twice without progress: claimed only alone."""
    since: datetime | None = None
    """Whatever is ready for longer was claimed, or has a lower priority; None: that is not known."""


class RunAction(IntEnum):
    """What a flush does to a run's row."""

    CHECKPOINT = 1
    """Stay the owner; set base and prologue."""
    HANG_UP = 2
    """WAITING with `due_at` = least(due_at, deadline), or READY when mail or a request came meanwhile; owner none."""
    RELEASE = 3
    """READY at once, owner none: a graceful stop, or a drain point."""
    RETRY = 4
    """DELAYED until now + `delay` (READY when zero), attempt + 1, owner none."""
    PAUSE = 5
    PARK = 6
    COMPLETE = 7
    FAIL = 8
    CANCEL = 9
    CONTINUE = 10
    """Continue as new: new input, nothing below `base` is read any more, READY, owner none."""
    SET = 11
    """Stay the owner; set what is given of `progress`, `lasts` and `reports`, as every update does."""


NO_DEADLINE = timedelta(microseconds=-1)
"""As `RunUpdate.lasts`: the run has no deadline any more."""


@attrs.define(kw_only=True)
class RunUpdate:
    """The change of one run's own row; guarded by owner and `claim`. At most one a run and flush."""

    run_id: UUID
    claim: int
    action: RunAction
    due_at: datetime | None = None
    delay: timedelta | None = None
    mail_read: int = 0
    wake_at_mail: int = 0
    """The mail count from which a message wakes a waiting run; 0: any message does."""
    base: int | None = None
    prologue: int | None = None
    closed: int | None = None  # of a checkpoint: where the segment begins that it closes, and that is forgotten
    output: str | None = None
    error: str | None = None
    input: str | None = None
    progress: str | None = None
    reports: str | None = None
    """JSON object: what the functions in flight said last, by the key of their step."""
    lasts: timedelta | None = None
    """A new deadline, counted from this commit, or `NO_DEADLINE`."""
    notify_parent: UUID | None = None
    """The parent whose inbox gets a CHILD message with `parent_key`, in the same statement. For ends only."""
    parent_key: str | None = None
    urgent: bool = False  # wake the parent whatever it waits for (a failure)
    unwinding: bool = False  # the request to cancel is in the history already: it keeps no hang-up awake
    undoing: bool = False
    """What the run did is being undone: its deadline wakes it no more."""


@attrs.frozen(kw_only=True)
class ScheduleChange:
    """A schedule to create or replace, or to remove (`call_name` kept, `cron` None)."""

    target: str
    """Name of the definition."""
    name: str
    """The schedule's own name; unique per target."""
    cron: str | None
    timezone: str = "UTC"
    input: str = "{}"
    queue: str = "default"
    priority: int = 0
    kind: str = "task"
    origin: str = "dynamic"
    """`code` or `dynamic`: only what the code declares is changed by a worker that starts."""
    overlap: str = "allow"
    next_at: datetime | None = None


@attrs.frozen(kw_only=True)
class ScheduleRow:
    """A schedule as it is stored."""

    schedule_id: UUID
    target: str
    name: str
    cron: str
    timezone: str
    input: str
    queue: str
    priority: int
    kind: str
    origin: str
    overlap: str
    paused: bool
    next_at: datetime
    last_at: datetime | None


@attrs.frozen(kw_only=True)
class TriggerRow:
    """An event trigger of a definition."""

    target: str
    number: int
    """From 1, as the definition names them."""
    event: str
    filter: str | None = None
    """JSON text; see `flowgen.core.filters`."""
    fields: tuple[str, ...] | None = None
    queue: str = "default"
    priority: int = 0
    kind: str = "task"
    deadline: timedelta | None = None


@attrs.frozen(kw_only=True)
class FlushBatch:
    """What one commit of a worker writes: everything or, for a run whose row is locked elsewhere, nothing of that run.

    Entries of one run stand in index order; a run appears in at most one flush at a time.
    """

    entries: Sequence[tuple[UUID, Entry]] = ()
    updates: Sequence[RunUpdate] = ()
    children: Sequence[NewRun] = ()
    consumed: Sequence[tuple[UUID, int]] = ()
    """(run_id, message id) of the inbox rows that the entries record."""
    schedules: Sequence[tuple[UUID, ScheduleChange]] = ()
    """With the run that asks for it."""
    effects: Sequence[tuple[UUID, Effect]] = ()
    """With the run that asks for it."""


@attrs.frozen(kw_only=True)
class FlushResult:
    """What a flush came to."""

    fenced: bool
    """Nothing was written: the session's lease is over."""
    skipped: frozenset[UUID]
    """Runs left out whole because a row was locked; their part goes into the next flush."""
    due: Mapping[tuple[UUID, int], datetime]
    """`due_at` of each entry that had a delay, by (run_id, index)."""
    landed: Mapping[UUID, int]
    """`Status` of each run whose row was updated."""
    now: datetime
    """The database's time of this flush: `recorded_at` of its entries."""
    adopted: frozenset[UUID] = frozenset()
    """Children that were inserted as `owned`: running, claim 1. The others of them are claimed as any run."""


@attrs.frozen(kw_only=True)
class Owned:
    """News about a running run for its owner: a request, or its inbox."""

    run_id: UUID
    request: int
    reason: str | None
    mail: int
    deadline: datetime | None
    inbox: Sequence[Message]


@attrs.frozen
class Letter:
    """A message to send to a run."""

    run_id: UUID
    kind: int
    """`MessageKind`."""
    key: str
    payload: str
    """JSON text."""


@attrs.frozen(kw_only=True)
class Ended:
    """A run that somebody waits for."""

    run_id: UUID
    status: int
    output: str | None
    error: str | None
