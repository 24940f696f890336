"""The statuses of a run, and the table of transitions.

The store keeps more statuses than users need: `READY`, `DELAYED` and `HELD` are all `pending` to a client. The table
below is the whole state machine; the CHECK of the first migration and a test repeat it.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

__all__ = ["FINAL", "TRANSITIONS", "Request", "RunKind", "RunStatus", "Status", "public"]


class RunKind(StrEnum):
    """What a run executes."""

    WORKFLOW = "workflow"
    TASK = "task"


class RunStatus(StrEnum):
    """What a client sees."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PARKED = "parked"

    @property
    def is_final(self) -> bool:
        """Whether a run in this status has ended: completed, failed or cancelled."""
        return self in {RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED}


class Status(IntEnum):
    """What the store keeps, as a smallint."""

    READY = 0
    """May be claimed now."""
    DELAYED = 1
    """Not before `due_at`: a start with a delay, or a retry that backs off."""
    HELD = 2
    """Out of the ready index: no live worker knows the definition, or the queue is paused."""
    RUNNING = 3
    """Owned by a session."""
    WAITING = 4
    """Hung up: a timer, a child or a message will make it ready."""
    PAUSED = 5
    PARKED = 6
    COMPLETED = 7
    FAILED = 8
    CANCELLED = 9


class Request(IntEnum):
    """What somebody else asks of a run; its owner acts on it."""

    NONE = 0
    CANCEL = 1
    PAUSE = 2


FINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})

TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.READY: frozenset({Status.RUNNING, Status.HELD, Status.PAUSED, Status.CANCELLED, Status.DELAYED}),
    Status.DELAYED: frozenset({Status.READY, Status.HELD, Status.PAUSED, Status.CANCELLED}),
    Status.HELD: frozenset({Status.READY, Status.DELAYED, Status.PAUSED, Status.CANCELLED}),
    Status.RUNNING: frozenset(
        {
            Status.READY,
            Status.DELAYED,
            Status.WAITING,
            Status.PAUSED,
            Status.PARKED,
            Status.COMPLETED,
            Status.FAILED,
            Status.CANCELLED,
        }
    ),
    Status.WAITING: frozenset({Status.READY, Status.HELD, Status.PAUSED, Status.CANCELLED}),
    Status.PAUSED: frozenset({Status.READY, Status.DELAYED, Status.CANCELLED}),
    Status.PARKED: frozenset({Status.READY, Status.CANCELLED}),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset({Status.READY}),
    Status.CANCELLED: frozenset(),
}

_PUBLIC = {
    Status.READY: RunStatus.PENDING,
    Status.DELAYED: RunStatus.PENDING,
    Status.HELD: RunStatus.PENDING,
    Status.RUNNING: RunStatus.RUNNING,
    Status.WAITING: RunStatus.WAITING,
    Status.PAUSED: RunStatus.PAUSED,
    Status.PARKED: RunStatus.PARKED,
    Status.COMPLETED: RunStatus.COMPLETED,
    Status.FAILED: RunStatus.FAILED,
    Status.CANCELLED: RunStatus.CANCELLED,
}


def public(status: int) -> RunStatus:
    """The status that a client sees for a stored one."""
    return _PUBLIC[Status(status)]
