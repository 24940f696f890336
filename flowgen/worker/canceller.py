"""Cancels children that nobody waits for any more, before their parent's decision is committed.

The invariant: it calls back only when the store has said twice that there is nothing left to change, however often an
answer was lost meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from uuid import UUID

from flowgen.errors import DatabaseError
from flowgen.postgres import claims
from flowgen.worker.link import Link, backoff
from flowgen.worker.sessions import SessionHolder

__all__ = ["Canceller"]

_SURE = 2
"""Times in a row that nothing changed: the first may have left out rows that were locked."""
_LATER = (0.05, 0.2, 1.0)
"""Seconds after which it is asked again what was locked all the time, while the parent goes on."""


class Canceller:
    """One agent; `submit` from the event loop's thread."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, link: Link, session: SessionHolder, poke: Callable[[], None]
    ) -> None:
        """`poke` says that a child may be ready to be cancelled, or that news for its parent may be there."""
        self._loop = loop
        self._link = link
        self._session = session
        self._poke = poke
        self._tasks: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None
        self._broken = asyncio.Event()

    def submit(self, parent: UUID, children: Sequence[UUID], reason: str, then: Callable[[], None]) -> None:
        """Cancel these children of `parent` durably, then call back."""
        task = self._loop.create_task(self._cancel(parent, children, reason, then))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def serve(self) -> None:
        """Until cancelled, and with it what is under way. Raises the DatabaseError that no later try would mend."""
        try:
            await self._broken.wait()
            assert self._error is not None
            raise self._error
        finally:
            for task in self._tasks:
                task.cancel()

    async def _cancel(self, parent: UUID, children: Sequence[UUID], reason: str, then: Callable[[], None]) -> None:
        failures = 0
        again = _SURE
        while again:
            try:
                changed = await self._link.call(claims.cancel_runs(children, reason, parent=parent))
                again = again - 1 if not changed else _SURE
            except DatabaseError as error:
                if not error.transient:
                    raise
                failures += 1
                self._session.trouble(error, failures)
                await asyncio.sleep(backoff(failures))
        then()
        self._poke()
        for pause in _LATER:
            await asyncio.sleep(pause)
            try:
                if await self._link.call(claims.cancel_runs(children, reason, parent=parent)):
                    self._poke()
            except DatabaseError as error:
                if not error.transient:
                    raise

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._error = error
            self._broken.set()
