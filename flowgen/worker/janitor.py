"""Everybody's housekeeping, in small batches, by every worker: dead sessions, due and held runs, cascades, windows.

One look says what there is to do, also for the agents that wait: the claimer and the scheduler need not ask while they
have nothing to do. Each statement is idempotent and skips what another worker holds, so there is no leader whose loss
would stop it.
"""

from __future__ import annotations

import asyncio
import random

from flowgen.core.settings import Settings
from flowgen.errors import DatabaseError
from flowgen.postgres import care, claims, workers
from flowgen.worker.claimer import Claimer
from flowgen.worker.herald import Herald
from flowgen.worker.link import Link, backoff
from flowgen.worker.runner import Runner
from flowgen.worker.scheduler import Scheduler
from flowgen.worker.sessions import SessionHolder

__all__ = ["Janitor"]

SWEEPS = 20
"""Statements of one round at the most that delete what nobody reads any more."""


class Janitor:
    """Looks at least once a second, or once a `poll` when that is shorter."""

    def __init__(
        self,
        link: Link,
        session: SessionHolder,
        settings: Settings,
        claimer: Claimer,
        scheduler: Scheduler,
        herald: Herald,
        runner: Runner,
    ) -> None:
        self._link = link
        self._session = session
        self._settings = settings
        self._claimer = claimer
        self._scheduler = scheduler
        self._herald = herald
        self._runner = runner

    async def serve(self) -> None:
        """Clean until cancelled."""
        failures = 0
        while True:
            try:
                await self.clean()
                failures = 0
                wait = min(1.0, self._settings.poll.total_seconds()) * (0.75 + random.random() / 5)  # noqa: S311
            except DatabaseError as error:
                if not error.transient:
                    raise
                failures += 1
                self._session.trouble(error, failures)
                wait = backoff(failures)
            await asyncio.sleep(wait)

    async def clean(self) -> None:
        """One round."""
        seen = await self._link.call(care.look())
        self._session.clock.heard(seen.now)
        if seen.closed:
            self._runner.release(frozenset(seen.closed))
        if seen.next_tick_at is not None:
            self._scheduler.expect(seen.next_tick_at)
        if seen.events:
            self._herald.poke()
        if seen.ready or seen.suspect:
            self._claimer.poke()
        else:
            self._claimer.nothing_ready()
        if seen.lost and (await self._link.call(workers.reap())).released:
            self._claimer.poke()
        if seen.next_due_at is not None:
            await self._promote(seen)
        if seen.held and (await self._link.call(claims.put_back())) > 0:
            self._claimer.poke()
        if seen.ready:
            await self._link.call(claims.hold())
        if seen.former:
            await self._sweep()
        if seen.cascades:
            await self._link.call(claims.cancel_children())

    async def _sweep(self) -> None:
        for _ in range(SWEEPS):
            if await self._link.call(care.sweep()) is None:
                return

    async def _promote(self, seen: care.Look) -> None:
        assert seen.next_due_at is not None
        if seen.next_due_at > seen.now:
            self._claimer.wake_at(seen.next_due_at)
        elif (await self._link.call(claims.promote(500))).count:
            self._claimer.poke()
