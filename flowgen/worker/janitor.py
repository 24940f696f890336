"""Everybody's housekeeping, in small batches, by every worker: dead sessions, due runs, held runs, cascades.

Each statement is idempotent and skips what another worker holds, so there is no leader whose loss would stop it.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from flowgen.core.settings import Settings
from flowgen.errors import DatabaseError
from flowgen.postgres import claims, workers
from flowgen.worker.link import Link, backoff
from flowgen.worker.sessions import SessionHolder

__all__ = ["Janitor"]


class Janitor:
    """Looks about every second."""

    def __init__(self, link: Link, session: SessionHolder, settings: Settings, poke: Callable[[], None]) -> None:
        self._link = link
        self._session = session
        self._settings = settings
        self._poke = poke

    async def serve(self) -> None:
        """Clean until cancelled."""
        failures = 0
        while True:
            try:
                await self.clean()
                failures = 0
                wait = min(1.0, self._settings.poll.total_seconds()) * (0.75 + random.random() / 2)  # noqa: S311
            except DatabaseError as error:
                if not error.transient:
                    raise
                failures += 1
                self._session.trouble(error, failures)
                wait = backoff(failures)
            await asyncio.sleep(wait)

    async def clean(self) -> None:
        """One round."""
        reaped = await self._link.call(workers.reap())
        promoted = await self._link.call(claims.promote(500))
        put_back = await self._link.call(claims.put_back())
        await self._link.call(claims.hold())
        await self._link.call(claims.cancel_children())
        if reaped.released or promoted.count or put_back:
            self._poke()
