"""Hints that there may be something to do; polling is the truth.

    say_idle(session, idle) -> Op[None]        a worker wants a notification, or does not
    notify(schema, payload="") -> Op[bool]     after the commit that made work, in a statement of its own
    listen() -> Op[None]                       then read `conn.notifies()`; not behind a transaction-mode pooler

The channel is `Schema.channel`: two schemas of one database do not wake each other. A hint is never part of a hot
commit and never needed: nothing is sent while no worker is idle, and one that is lost costs a poll's time. The
invariant of an idle worker: it says so, then claims once more, then waits; so work made before is claimed and work
made after is told. A start learns in its own statement, before its commit, whether anybody is idle: the worker claims
once more a little later, for starts that were under way when it said so.
"""

from __future__ import annotations

from flowgen.postgres.database import Op, Schema, Statement
from flowgen.postgres.rows import Session

__all__ = ["EVENTS", "listen", "notify", "say_idle"]

EVENTS = "events"
"""Says that there may be events to tell of."""


def say_idle(session: Session, idle: bool) -> Op[None]:
    """Ask for notifications, or not any more; writes only when that changes."""
    yield Statement("say_idle", {"session": session.id, "idle": idle})


def notify(schema: Schema, payload: str = "") -> Op[bool]:
    """Send a hint when some live worker is idle; True when it was sent. `payload` under 8,000 bytes."""
    rows = yield Statement("notify", {"channel": schema.channel, "payload": payload})
    return bool(rows)


def listen() -> Op[None]:
    """Receive the schema's notifications on this connection."""
    yield Statement("listen")
