"""What is recorded of a run: one insert-only fact each, in one growing sequence of indexes.

Only `OUTCOME` (and a `CHECKPOINT` that closes a segment) takes part in the order of a replay; the other kinds are the
state of their command. An entry's `value` is JSON text as the codec made it, never a parsed object, so that the first
run and every replay decode the same characters.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import IntEnum

import attrs

__all__ = ["Entry", "EntryKind", "Message", "MessageKind", "OutcomeKind", "address"]


class EntryKind(IntEnum):
    OUTCOME = 1
    """What a command came to: `status` says how, `value` holds the value or the failure."""
    ATTEMPT = 2
    """A failed attempt: `attempt` its number, `value` the failure, `due_at` not before which the next one starts."""
    STARTED = 3
    """An at-most-once call is about to be made; committed before the call."""
    ARMED = 4
    """A timer or a timeout: `due_at` is absolute, computed by the database as now + `delay`."""
    CHILD = 5
    """A child run was made: `value` is its run_id as a JSON string."""
    CHECKPOINT = 6
    """Progress with data: `value` is `[cursor, items_processed, accumulated_results]`, and what `Saved.heard` and
    `Saved.lost` say when there is some. Closes the segment."""
    SET_ASIDE = 7
    """`value` is `{"indexes": [...], "why": ..., "who": ...}`: those entries answer no longer."""
    ENDING = 8
    """The run has failed or was cancelled, and what it did is undone since: `value` is what it comes to then."""
    PASS = 9
    """The first of a run that went on as new: `value` is `Saved.heard` of the passes before. Nothing sets it aside."""


class OutcomeKind(IntEnum):
    VALUE = 1
    FAILURE = 2
    TIMEOUT = 3
    CANCELLATION = 4
    SKIPPED = 5
    """A node of a Graph did not run: `value` is the reason."""


@attrs.define
class Entry:
    """One fact of one run's history.

    Whoever commits it fills in the three fields that only the store knows, each once; nobody else changes an entry.
    """

    index: int
    """Its place; given when the flush is sent, -1 until then."""
    kind: int
    key: str
    """The command's path inside the run; empty for facts about the run itself."""
    fingerprint: str | None = None
    status: int | None = None
    """`OutcomeKind`, for outcomes."""
    attempt: int | None = None
    value: str | None = None
    """JSON text."""
    due_at: datetime | None = None
    """By the committer for an entry with a `delay`, when it is durable. Of a wait's outcome: the place of its event."""
    delay: timedelta | None = None
    """Not stored: asks the database for `due_at` = its now + delay."""
    named: bool = False
    """The author gave the name, so a new segment keeps it."""
    recorded_at: datetime | None = None
    """When it became durable, by the database's clock."""


class MessageKind(IntEnum):
    """What stands in a run's inbox."""

    CHILD = 1
    """A child ended: `key` is the parent's command; `payload` is `{"status": ..., "output": ...| "error": ...}`."""
    SIGNAL = 2
    EVENT = 3
    """An event for a wait: `key` is its command, `payload` as `semantics.events.opened` reads it."""
    TOKEN = 4
    RETRY = 5
    """A client retries a failed run: `payload` is `{"from_scratch": bool, "who": ...}`."""
    ACCEPT = 6
    """An operator lets a diverged run go on with the code as it is: `{"by": ..., "reason": ...}`."""


@attrs.frozen
class Message:
    """One message to one run, kept in its inbox until the flush that consumes it."""

    id: int
    kind: int
    key: str
    payload: str
    """JSON text."""
    created_at: datetime | None = None

    @property
    def address(self) -> str:
        """Under what a command of the run listens: see `address`."""
        return address(self.kind, self.key)


def address(kind: int, key: str) -> str:
    """Where messages of a kind lie in a run's mailbox; no command's key, under which a child's end lies, begins so."""
    return key if kind == MessageKind.CHILD else f"#{kind}:{key}"
