"""Tells waits of events: gives events their places in the order, finds the first that fits each wait, delivers it.

Every worker does it, one at a time in a schema. What triggers start is not its work: it is started in the emitter's own
transaction. The invariant: an event whose transaction has committed, and a wait that is registered, always meet: each
is looked at in a statement that begins after its commit, so the one that came later finds the other.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

from flowgen.core.definitions import Definition
from flowgen.core.settings import Settings
from flowgen.errors import DatabaseError
from flowgen.postgres import events
from flowgen.postgres.rows import TriggerRow
from flowgen.worker.clock import monotonic
from flowgen.worker.link import Link, backoff
from flowgen.worker.sessions import SessionHolder

__all__ = ["Herald", "triggers_of"]

BATCH = 2000
"""Events, and waits, that are looked at in one transaction at the most."""
BUSY = 0.005
"""Seconds after which it looks again when another worker is at it."""
SWEEP = 60.0
"""Seconds between two looks for events that are too old, and for waits of runs that have ended."""


def triggers_of(definitions: Iterable[Definition[..., Any, Any]]) -> list[TriggerRow]:
    """The event triggers that the code declares."""
    return [
        TriggerRow(
            target=definition.name,
            number=number,
            event=trigger.event,
            filter=trigger.when,
            fields=trigger.fields,
            queue=definition.options.queue,
            priority=definition.options.priority,
            kind=definition.kind,
            deadline=definition.options.deadline,
        )
        for definition in definitions
        for number, trigger in enumerate(definition.options.on, start=1)
    ]


class Herald:
    """Looks when it is poked: by the janitor's looks, by notifications, by commits of this worker."""

    def __init__(self, link: Link, session: SessionHolder, settings: Settings, poke: Callable[[], None]) -> None:
        """`poke` says that runs are ready."""
        self._link = link
        self._session = session
        self._settings = settings
        self._poke = poke
        self._wake = asyncio.Event()
        self._swept = UUID(int=0)

    def poke(self) -> None:
        """Look now: there may be an event, or a wait."""
        self._wake.set()

    async def serve(self) -> None:
        """Tell until cancelled."""
        failures = 0
        sweep = monotonic() + SWEEP * random.random()  # noqa: S311 - spreads load, guards nothing
        while True:
            try:
                async with asyncio.timeout(max(0.0, sweep - monotonic())):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                await self._tell()
                if monotonic() >= sweep:
                    sweep = monotonic() + (SWEEP if await self._sweep() else 0.1)
                failures = 0
            except DatabaseError as error:
                if not error.transient:
                    raise
                failures += 1
                self._session.trouble(error, failures)
                await asyncio.sleep(backoff(failures))
                self._wake.set()

    async def _tell(self) -> None:
        while True:
            told = await self._link.call(events.tell(BATCH))
            if told.waits:
                self._poke()
            if told.busy:
                await asyncio.sleep(BUSY)
            elif not told.more:
                return

    async def _sweep(self) -> bool:
        """Whether this was the last of a round."""
        swept = await self._link.call(events.sweep(self._settings.keep_events, self._swept, BATCH))
        self._swept = swept.after or UUID(int=0)
        return swept.after is None and swept.events < BATCH
