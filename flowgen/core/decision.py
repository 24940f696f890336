"""What the core asks the shell to do: plain data. The shell commits, calls, waits; the core never does.

The order that keeps every promise: commands in `cancel_children` first, then one commit of `entries`, `children`,
`schedules`, `signals`, `emits`, `listens`, `quits`, `consumed`, `progress`, `deadline`, `checkpoint` and
`finish` together, then `calls`. What was committed comes back as `delivered` of the next `advance`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

import attrs

from flowgen.core.commands import Invoke, Schedule, Signal, Start, Step, Transaction, Unschedule
from flowgen.core.entries import Entry
from flowgen.errors import Failure

__all__ = [
    "UNWANTED",
    "Cancelled",
    "ChildStart",
    "Completed",
    "Continued",
    "Decision",
    "EmitRequest",
    "Failed",
    "Finish",
    "FunctionCall",
    "ListenRequest",
    "NewDeadline",
    "Parked",
    "Progress",
    "Raised",
    "Restarted",
    "Result",
    "Returned",
    "SignalRequest",
    "TimedOut",
    "Waits",
    "more",
]

T = TypeVar("T")

UNWANTED = "nobody waits for it any more"
"""Why a child in `Decision.cancel_children` is cancelled."""


@attrs.define
class FunctionCall:
    """Call a step's function, not before `not_before`, then give what it came to to `Execution.settle`."""

    key: str
    command: Step[Any] | Transaction[Any]
    attempt: int
    not_before: datetime | None = None

    @property
    def max_attempts(self) -> int:
        return self.command.retry.max_attempts

    @property
    def timeout(self) -> timedelta | None:
        """Start to close, of each attempt."""
        return self.command.timeout

    @property
    def config(self) -> Mapping[str, Any]:
        return self.command.config


@attrs.frozen
class ChildStart:
    """Insert a child run in the commit of its CHILD entry."""

    key: str
    command: Invoke[Any] | Start[Any]
    run_id: UUID
    input: str
    """JSON text."""


@attrs.frozen
class ScheduleRequest:
    """Create or remove a dynamic schedule in the commit of its outcome."""

    command: Schedule | Unschedule
    input: str = "{}"
    """JSON text of the arguments of the runs that it starts."""


@attrs.frozen
class SignalRequest:
    """Send a signal in the commit of its outcome; a failure is its outcome when there is nobody to send it to."""

    key: str
    command: Signal
    payload: str
    """JSON text."""


@attrs.frozen
class EmitRequest:
    """Emit an event in the commit of its outcome."""

    key: str
    name: str
    event_id: UUID
    payload: str
    """JSON text."""


@attrs.frozen
class Progress:
    """What clients are to read of the run, in the commit of its outcome."""

    key: str
    text: str
    """JSON text."""


@attrs.frozen
class ListenRequest:
    """Register a wait for an event; one that is registered already, as after a replay, stays."""

    key: str
    name: str
    fingerprint: str
    """Of the wait: an event that is delivered says for which one."""
    filter: str | None
    """JSON text; see `flowgen.core.filters`."""
    after: datetime | None
    """The place of the event that answered the wait before this one; None: since the run began."""


@attrs.frozen
class NewDeadline:
    """The run is to end so long after the commit of its outcome."""

    key: str
    lasts: timedelta | None
    """None: it has no deadline any more."""


@attrs.frozen
class Waits:
    """The run hangs up: what would wake it, beside its inbox."""

    due_at: datetime | None = None
    messages: int = 1
    """How many messages it takes before going on makes sense."""


@attrs.frozen
class Completed:
    output: str
    """JSON text."""


@attrs.frozen
class Failed:
    failure: Failure
    retry_after: timedelta | None = None
    """The run is tried again after this wait; None: it has failed for good."""


@attrs.frozen
class Cancelled:
    reason: str | None = None
    not_undone: Sequence[Mapping[str, Any]] = ()
    """What could not be undone: key and failure of each."""


@attrs.frozen
class Parked:
    """Waits for a person or new code. `reason` is diverged, stuck or undecodable."""

    reason: str
    detail: str


@attrs.frozen
class Restarted:
    """Entries were set aside: go on with a new execution over the history that is left."""


@attrs.frozen
class Continued:
    """The run begins anew, with nothing of its history."""

    input: str
    """JSON text."""


Finish: TypeAlias = Completed | Failed | Cancelled | Parked | Restarted | Continued


def more(items: Sequence[T], item: T) -> Sequence[T]:
    """`items` and one more. What is empty by default is shared, so it is replaced; a list is taken on."""
    if isinstance(items, list):
        items.append(item)
        return items
    return [*items, item]


class Decision:
    """See the module's docstring for the order in which a shell carries it out. Whoever is given one owns it.

    One is made for each step: what is rare is the class's own, and empty, until there is some.
    """

    entries: list[Entry]
    calls: list[FunctionCall]
    children: Sequence[ChildStart] = ()
    schedules: Sequence[ScheduleRequest] = ()
    signals: Sequence[SignalRequest] = ()
    emits: Sequence[EmitRequest] = ()
    listens: Sequence[ListenRequest] = ()
    quits: Sequence[str] = ()
    """Keys of the waits for events that are over: their registrations go, and what was delivered to them."""
    consumed: Sequence[int] = ()
    """Ids of the inbox messages that `entries`, or entries before them, record."""
    progress: Progress | None = None
    deadline: NewDeadline | None = None
    checkpoint: int | None = None
    """The CHECKPOINT entry closes a segment: its index becomes the base; this is the prologue."""
    aborts: Sequence[str] = ()
    """Keys of calls in flight that nobody wants any more."""
    cancel_children: Sequence[UUID] = ()
    """Nobody waits for them any more: they are cancelled for the reason `UNWANTED`."""
    hang_up: Waits | None = None
    finish: Finish | None = None
    warnings: Sequence[str] = ()

    def __init__(self, finish: Finish | None = None) -> None:
        self.entries = []
        self.calls = []
        if finish is not None:
            self.finish = finish

    def _given(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if value}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Decision) and self._given() == other._given()

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"Decision({', '.join(f'{name}={value!r}' for name, value in self._given().items())})"


@attrs.define
class Returned:
    """A function returned `value`."""

    value: Any


@attrs.frozen
class Raised:
    """A function raised."""

    error: BaseException


@attrs.frozen
class TimedOut:
    """A function was still running at the end of its timeout."""

    timeout: timedelta


Result: TypeAlias = Returned | Raised | TimedOut
