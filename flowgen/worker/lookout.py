"""Says who holds an old snapshot, a prepared transaction or a slot for long, as claims get slower while they last.

Every worker looks, rarely, and warns once of each holder. It ends nobody: whether a report of ten minutes is wanted is
for the operator to know. A holder is told only when two looks found it with the same transaction, so a session that
takes a new snapshot with each statement is not.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence

from flowgen.errors import DatabaseError
from flowgen.postgres import holders
from flowgen.postgres.holders import Holder
from flowgen.worker.clock import monotonic
from flowgen.worker.link import Link

__all__ = ["Lookout"]

EVERY = 60.0
"""Seconds between two looks."""
LIMIT = 300.0
"""Seconds for which nobody is warned of."""

_log = logging.getLogger("flowgen.worker")


class Lookout:
    """One agent, on the event loop."""

    def __init__(self, link: Link, *, every: float | None = None, limit: float | None = None) -> None:
        """`every` and `limit` in seconds; `EVERY` and `LIMIT` unless given."""
        self._link = link
        self._every = EVERY if every is None else every
        self._limit = LIMIT if limit is None else limit
        self._seen: dict[tuple[str, str, str], float] = {}
        self._told: set[tuple[str, str, str]] = set()
        self._blind = False

    async def serve(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(self._every * (0.75 + random.random() / 2))  # noqa: S311 - spreads load, guards nothing
            try:
                self.heed(await self._link.call(holders.oldest()), monotonic())
            except DatabaseError as error:
                if not error.transient and not self._blind:
                    self._blind = True
                    _log.warning("nobody will be named who holds an old snapshot, as it cannot be seen here: %s", error)

    def heed(self, found: Sequence[Holder], now: float) -> None:
        """Warn of those that were seen before and last for longer than the limit. `now` is of the monotonic clock."""
        before = self._seen
        self._seen = {holder.key: before.get(holder.key, now) for holder in found}
        self._told &= self._seen.keys()
        for holder in found:
            if holder.key not in before or holder.key in self._told:
                continue
            seconds = now - before[holder.key] if holder.lasts is None else holder.lasts.total_seconds()
            if seconds > self._limit:
                self._told.add(holder.key)
                _log.warning("%s", _warning(holder, seconds))


def _warning(holder: Holder, seconds: float) -> str:
    lasts = f"for {seconds / 60:.0f} minutes" if seconds >= 120 else f"for {seconds:.0f} seconds"
    slower = "claims get slower, as no row version is cleaned up that is younger than it"
    match holder.what:
        case "session":
            state = holder.state or "in a state that this role may not see"
            return (
                f"the session of pid {holder.name} (application {holder.application!r}, user {holder.who!r}, {state}) "
                f"has held an old snapshot {lasts}: {slower}. Let it commit or roll back, or end it with "
                f"SELECT pg_terminate_backend({holder.name})"
            )
        case "prepared":
            gid = holder.name.replace("'", "''")
            return (
                f"the prepared transaction {holder.name!r} (owner {holder.who!r}) was left {lasts}: {slower}. End it "
                f"with COMMIT PREPARED '{gid}' or ROLLBACK PREPARED '{gid}'"
            )
        case "slot":
            return (
                f"the replication slot {holder.name!r} ({holder.state}) has held an old snapshot {lasts}: {slower}. "
                f"{_slot(holder)}"
            )
        case "wal":
            return (
                f"the replication slot {holder.name!r} ({holder.state}) has not moved {lasts}: it keeps the WAL since "
                f"{holder.mark}, until the disk is full. {_slot(holder)}"
            )


def _slot(holder: Holder) -> str:
    if holder.state == "active":
        return "Look for a long query on its standby, or set hot_standby_feedback = off there"
    return f"Start its consumer, or give it up with SELECT pg_drop_replication_slot('{holder.name}')"
