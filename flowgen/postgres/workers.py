"""Worker sessions: the row that every write of a worker is fenced by.

    register(session_id, lease=, definitions=, queues=None, host=, pid=, versions=None, previous=None)
        -> Op[Registered]
    heartbeat(session, lease) -> Op[Beat | None]         None: the session is dead, register anew under a new id
    excuse(lost) -> Op[None]                             the process of a lost session has lived
    leave(session) -> Op[None]                           the end of a graceful stop, after `claims.release`
    bury(session_id) -> Op[None]                         the process of the session is known to be gone
    victims(run_id) -> Op[Sequence[str]]                 the workers whose end is counted against a run, in order
    reap(limit=500) -> Op[Reaped]                        three commits; by any worker, with each slow poll
    resolve_unknown(session) -> Op[Session | None]       a new epoch, after a commit whose outcome is unknown
    lineage() -> Op[Lineage]                             server, timeline and time; DatabaseError on a standby

Call them on autocommit connections: `reap` and `resolve_unknown` are right only when each statement commits.

It never decides whether a lease is still to be trusted: the worker does, on its own monotonic clock. A session is never
revived. The invariant: once `reap` has released a session's runs, no statement of that session writes; `dead` stops the
ones that have not begun, the lock of the second commit waits for the ones that have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Literal, TypeAlias
from uuid import UUID

import attrs

from flowgen.errors import DatabaseError
from flowgen.failpoints import ARMED, failpoint
from flowgen.postgres import arrays
from flowgen.postgres.database import NO_WRITES, Op, Statement
from flowgen.postgres.rows import Session
from flowgen.postgres.staged import staged

__all__ = [
    "Beat",
    "Excuse",
    "Lineage",
    "Lost",
    "Reaped",
    "Registered",
    "bury",
    "excuse",
    "heartbeat",
    "leave",
    "lineage",
    "reap",
    "register",
    "resolve_unknown",
    "victims",
]


Excuse: TypeAlias = Literal["outage", "stall"]
"""Why a process that lives lost its session: it could not reach the database, or it was held up itself."""


@attrs.frozen
class Lost:
    """A session that is over although its process lives."""

    id: UUID
    excuse: Excuse


@attrs.frozen
class Lineage:
    """Which history of the database this is: a failover or a restore changes it."""

    system_identifier: int
    timeline: str
    now: datetime


@attrs.frozen
class Registered:
    """A new session."""

    session: Session
    lease_until: datetime
    now: datetime
    lineage: Lineage


@attrs.frozen
class Beat:
    """A lease that was extended."""

    lease_until: datetime
    now: datetime


@attrs.frozen
class Reaped:
    """What a reaping came to."""

    dead: tuple[UUID, ...]
    """Sessions that were declared dead."""
    released: int
    """Runs that are ready again."""


def register(
    session_id: UUID,
    *,
    lease: timedelta,
    definitions: Sequence[str],
    queues: Sequence[str] | None = None,
    host: str = "",
    pid: int = 0,
    versions: Mapping[str, str] | None = None,
    previous: Lost | None = None,
    seen: Lineage | None = None,
) -> Op[Registered]:
    """Begin a session. `session_id` is random and never used again; `queues` None is every queue.

    `previous` is the one that this process has lost: it is ended at once, and its end is no recovery of its runs.
    `seen` is where this process was registered before. Raises DatabaseError, transient, on a primary of before.

    Call `claims.put_back` next: runs may be held that this worker knows.
    """
    if previous is not None:
        yield from excuse(previous)
    rows = yield Statement(
        "register",
        {
            "session": session_id,
            "lease": lease,
            "host": host,
            "pid": pid,
            "versions": json.dumps(dict(versions or {})),
            "queues": None if queues is None else list(queues),
            "names": arrays.texts(definitions),
        },
    )
    epoch, lease_until, now, system_identifier, timeline = rows[0]
    session, here = Session(session_id, epoch), Lineage(system_identifier, timeline, now)
    if seen is not None and here.system_identifier == seen.system_identifier and here.timeline < seen.timeline:
        yield from leave(session)
        raise DatabaseError(
            f"This server is on timeline {here.timeline}, and {seen.timeline} was seen: an old primary has come back "
            "after a failover. Nothing is done on it: stop it, or let the URL lead to the new one",
            sqlstate=NO_WRITES,
            transient=True,
        )
    return Registered(session, lease_until, now, here)


def heartbeat(session: Session, lease: timedelta) -> Op[Beat | None]:
    """Extend the lease to now + `lease`. None when the session is dead, or of before a failover."""
    rows = yield Statement("heartbeat", {"session": session.id, "lease": lease})
    return Beat(*rows[0]) if rows else None


def excuse(lost: Lost) -> Op[None]:
    """The process of this session has lived: what the session's end was, or would be, counted for is not counted.

    A run that goes from one stall to the next without progress is let off three times; then it may be what stalls.
    """
    yield Statement("excuse", {"lost": lost.id, "excuse": lost.excuse})


def leave(session: Session) -> Op[None]:
    """End the session: what it still owns is released by whoever reaps next, and charged nothing."""
    yield Statement("leave", {"session": session.id, "excuse": "left"})


def bury(session_id: UUID) -> Op[None]:
    """End the session of a process that is gone: whoever reaps next counts it against the runs that it had."""
    yield Statement("leave", {"session": session_id, "excuse": None})


def victims(run_id: UUID) -> Op[Sequence[str]]:
    """The workers that ended with a run since it last made progress: session, and host and pid while they are kept."""
    rows = yield Statement("victims", {"run_id": run_id})
    return [f"{session} ({host}, pid {pid})" if host is not None else str(session) for session, host, pid in rows]


def reap(limit: int = 500) -> Op[Reaped]:
    """Declare sessions dead whose lease is over, wait for nobody, and release a batch of the runs of quiet ones."""
    dead = yield Statement("reap_dead")
    if ARMED:
        failpoint("sweep.after_select")
    yield Statement("reap_quiet")
    release = _release(limit)
    released = yield from (staged(release, executed=["sweep.before_commit"]) if ARMED else release)
    return Reaped(tuple(row[0] for row in dead), released)


def _release(limit: int) -> Op[int]:
    rows = yield Statement("reap_release", {"limit": limit})
    return int(rows[0][0])


def resolve_unknown(session: Session) -> Op[Session | None]:
    """Wait for what this session has in flight, and refuse what comes later. None: the session is over.

    Then read what landed: `entries.read_back`, `claims.owned`.
    """
    rows = yield Statement("bump_epoch", {"session": session.id, "epoch": session.epoch})
    return Session(session.id, rows[0][0]) if rows else None


def lineage() -> Op[Lineage]:
    """Ask the server which one it is."""
    rows = yield Statement("lineage")
    return Lineage(*rows[0])
