"""The session that fences every write of this worker, and what happens when its lease is over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from flowgen.errors import DatabaseError
from flowgen.postgres import workers
from flowgen.postgres.rows import Session
from flowgen.worker.clock import DatabaseClock
from flowgen.worker.link import Link, backoff

__all__ = ["SessionHolder"]


class SessionHolder:
    """The current session of a worker. Only the event loop's thread changes it."""

    def __init__(
        self, session: Session, clock: DatabaseClock, log: logging.Logger, on_lost: Callable[[], None]
    ) -> None:
        self.current = session
        self.clock = clock
        self.fenced = False
        """The lease is over, and no new session is registered yet."""
        self._unanswered = 0
        self._renewing = asyncio.Lock()  # the second to ask asks with the epoch that the first was given
        self._log = log
        self._on_lost = on_lost

    def lost(self, session: Session) -> bool:
        """The store refused this session; whether it is lost.

        When it is not, only its epoch was old, or is being counted up: what was refused has written nothing and may be
        sent again.
        """
        if session.id == self.current.id:
            if session.epoch != self.current.epoch or self._renewing.locked() or self._unanswered:
                return self.fenced
            self.over()
        return True

    def over(self) -> None:
        """The lease is over: drop everything, then register anew under another id."""
        if not self.fenced:
            self.fenced = True
            self._unanswered = 0
            self._log.warning(
                "this worker's lease is over (session %s): its runs go on elsewhere; it drops them and registers anew",
                self.current.id,
            )
            self._on_lost()

    def is_lost(self, session: Session) -> bool:
        """Whether this session is over, or was replaced by another id."""
        return self.fenced or session.id != self.current.id

    async def renew(self, link: Link) -> Session | None:
        """The session under a new epoch: commits that were under way are refused from now on. None: it is lost.

        Raises DatabaseError.
        """
        async with self._renewing:
            before = self.current
            session: Session | None = None
            # An epoch whose answer was lost may have been given: only this worker counts it up.
            for ahead in range(self._unanswered + 1):
                if session is None:
                    session = await self._counted_up(link, Session(before.id, before.epoch + ahead))
            self._unanswered = 0
            if session is None and not self.is_lost(before):
                self.over()
            elif session is not None and not self.is_lost(before):
                self.current = session
            return session

    async def _counted_up(self, link: Link, session: Session) -> Session | None:
        try:
            return await link.call(workers.resolve_unknown(session))
        except DatabaseError:
            self._unanswered += 1
            raise

    def registered(self, session: Session) -> None:
        """A new session, under a new id."""
        self.current = session
        self.fenced = False

    async def again(self, error: DatabaseError, before: int) -> None:
        """Before what was refused for others' sake is sent again: the first time at once, then ever less often."""
        if before:
            self.trouble(error, before)
            await asyncio.sleep(backoff(before))

    def trouble(self, error: DatabaseError, failures: int) -> None:
        """The database cannot be reached or is busy; said once, then every tenth time."""
        if failures == 1 or failures % 10 == 0:
            self._log.warning("the database does not answer as it should (%s); trying again", error)
