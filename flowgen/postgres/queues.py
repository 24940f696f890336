"""Queues that are paused; one without a row is not.

    pause(name, who=None, reason=None) -> Op[bool]      False: it was paused already
    resume(name, who=None, reason=None) -> Op[bool]
    paused() -> Op[Sequence[str]]

Never touches a run: claims heed a pause at once, `claims.hold` takes the ready runs of a paused queue out of the way
and `claims.put_back` gives them back after a resume, in batches. Every change is in the audit table.
"""

from __future__ import annotations

from collections.abc import Sequence

from flowgen.postgres.database import Op, Statement

__all__ = ["pause", "paused", "resume"]


def pause(name: str, *, who: str | None = None, reason: str | None = None) -> Op[bool]:
    """No run of this queue is claimed from now on; running ones go on."""
    rows = yield Statement("queue_pause", {"name": name, "paused": True, "who": who, "reason": reason})
    return bool(rows)


def resume(name: str, *, who: str | None = None, reason: str | None = None) -> Op[bool]:
    """Runs of this queue are claimed again."""
    rows = yield Statement("queue_pause", {"name": name, "paused": False, "who": who, "reason": reason})
    return bool(rows)


def paused() -> Op[Sequence[str]]:
    """The names of the paused queues."""
    rows = yield Statement("queues")
    return [name for (name,) in rows]
