"""How a worker comes by its sessions: the first one, and another after each that it lost.

What is done here may be done twice, so it is tried again until it is answered. The invariant: a session that this
process has outlived is known to be that before the next one claims anything.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID, uuid4

from flowgen.app import App
from flowgen.core.sealing import Seal
from flowgen.core.settings import Settings
from flowgen.errors import DatabaseError
from flowgen.postgres import claims, events, messages, schedules, windows, workers
from flowgen.postgres.database import Op
from flowgen.postgres.rows import Session
from flowgen.postgres.workers import Lineage, Lost, Registered
from flowgen.worker.clock import monotonic
from flowgen.worker.herald import triggers_of
from flowgen.worker.link import Link, backoff
from flowgen.worker.scheduler import declared
from flowgen.worker.sealing import sealed_schedules

__all__ = ["Registration"]

T = TypeVar("T")

_log = logging.getLogger("flowgen.worker")

TRIES = 100
"""How often a worker that starts asks again for what is not answered, with pauses of up to 2 s."""


class Registration:
    """Registers the sessions of one worker."""

    def __init__(
        self,
        link: Link,
        app: App,
        settings: Settings,
        queues: Sequence[str] | None,
        on_session: Callable[[UUID], None],
    ) -> None:
        self._link = link
        self._definitions = dict(app.definitions)  # what is defined later, this worker does not know
        self._settings = settings
        self._queues = queues
        self._on_session = on_session
        self._seen: Lineage | None = None
        self.asked_at = 0.0
        """Monotonic seconds at which the last session was asked for."""

    async def register(self, previous: Lost | None = None) -> tuple[Session, datetime]:
        """A new session. A worker that has begun, and has lost the `previous` one, outlives any outage."""

        def register() -> Op[Registered]:
            self.asked_at = monotonic()
            return workers.register(
                uuid4(),
                lease=self._settings.lease,
                definitions=list(self._definitions),
                queues=self._queues,
                host=socket.gethostname(),
                pid=os.getpid(),
                previous=previous,
                seen=self._seen,
            )

        registered = await self._insist(register, TRIES if previous is None else None)
        self._seen = registered.lineage
        self._on_session(registered.session.id)
        return registered.session, registered.now

    async def secret(self) -> bytes:
        """What this database signs completion tokens with."""
        return await self._insist(messages.token_secret, TRIES)

    async def declare(self, now: datetime) -> None:
        """The schedules, event triggers and time windows of this code; runs that nobody knew until now are put back."""
        changes = sealed_schedules(Seal.of(self._settings), declared(self._definitions.values(), now))
        await self._insist(lambda: schedules.declare(changes, self._definitions), TRIES)
        triggers = triggers_of(self._definitions.values())
        await self._insist(lambda: events.declare(self._definitions, triggers), TRIES)
        own = {name: definition.options.window for name, definition in self._definitions.items()}
        await self._insist(lambda: windows.declare(own), TRIES)
        await self._insist(lambda: claims.put_back(10_000), TRIES)

    async def _insist(self, make: Callable[[], Op[T]], tries: int | None) -> T:
        failures = 0
        while True:
            try:
                return await self._link.call(make())
            except DatabaseError as error:
                if not error.transient or (tries is not None and failures > tries):
                    raise
                failures += 1
                if failures == 1 or failures % 10 == 0:
                    _log.warning("the database does not take this worker yet (%s); trying again", error)
                await asyncio.sleep(backoff(failures))
