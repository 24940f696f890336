"""Cancels children that nobody waits for any more, before their parent's decision is committed.

The invariant: it asks until the store has said that none of them is left, however often an answer was lost meanwhile.
The parent waits for that, but not for a child whose row somebody keeps locked: it goes on with a commit that says so
(`Unwanted`), and that one is cancelled when it can be, here or by the care of any worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from uuid import UUID

from flowgen.core.decision import UNWANTED
from flowgen.errors import DatabaseError
from flowgen.postgres import claims
from flowgen.worker.link import Link, backoff
from flowgen.worker.sessions import SessionHolder

__all__ = ["Canceller"]

_SOON = 0.005
"""Seconds before it asks again for what a flush may have locked."""
_LOCKED = 3
"""How often it has asked, when the parent waits no longer: what is left then is locked elsewhere."""


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

    def submit(self, parent: UUID, children: Sequence[UUID], then: Callable[[bool], None]) -> None:
        """Cancel these children of `parent` durably, then call back: whether some are left, which are to be noted."""
        task = self._loop.create_task(self._cancel(parent, children, then))
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

    async def _cancel(self, parent: UUID, children: Sequence[UUID], then: Callable[[bool], None]) -> None:
        failures = asked = 0
        while True:
            try:
                left = await self._link.call(claims.cancel_runs(children, UNWANTED, parent=parent))
            except DatabaseError as error:
                if not error.transient:
                    raise
                failures += 1
                self._session.trouble(error, failures)
                await asyncio.sleep(backoff(failures))
                continue
            if not left:
                break
            asked += 1
            if asked == _LOCKED:
                then(True)
            if asked > 1:
                await asyncio.sleep(_SOON if asked < _LOCKED else backoff(asked - _LOCKED))
        if asked < _LOCKED:
            then(False)
        self._poke()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._error = error
            self._broken.set()
