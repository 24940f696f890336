"""One commit of one run off the group lane: for what has to wait for other rows, or may be refused by the store.

While a part of the run is on its way nothing of it is sent here, and the other way round. A commit whose answer was
lost is read back under a new epoch before it is sent again. The invariant: what is asked for is in the same commit as
its entry, and is done at most once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol, TypeVar
from uuid import UUID

import attrs

from flowgen.core.branches import Leaf
from flowgen.core.entries import Entry, EntryKind, OutcomeKind
from flowgen.core.failures import failure_to_json
from flowgen.errors import DatabaseError, Failure
from flowgen.postgres import entries as entries_room
from flowgen.postgres.database import Op
from flowgen.postgres.rows import Session
from flowgen.worker.committer import AGAIN, Committer, Told
from flowgen.worker.link import Link, backoff
from flowgen.worker.live import STAYS, LiveRun, Part
from flowgen.worker.sessions import SessionHolder

__all__ = ["Apart", "Came", "Landed"]

_LANE = 0.0005
"""Seconds between two looks at whether the run's last part has landed."""


class Came(Protocol):
    """What a statement came to; `fenced`: nothing was written."""

    @property
    def what(self) -> str: ...
    @property
    def now(self) -> datetime: ...
    @property
    def due(self) -> Mapping[tuple[UUID, int], datetime]: ...


@attrs.frozen
class Landed:
    """The answer was lost, and the commit was found."""

    now: datetime
    due: Mapping[tuple[UUID, int], datetime]
    what: str = "landed"


R = TypeVar("R", bound=Came)


class Apart:
    """Commits one entry after the other, with what belongs to it."""

    def __init__(self, link: Link, session: SessionHolder, told: Told, committer: Committer) -> None:
        self._link = link
        self._session = session
        self._told = told
        self._committer = committer

    async def begin(self, run: LiveRun, leaf: Leaf | None) -> bool:
        """Wait until all that its handler knows is durable, and keep others back.

        False when the run does not go on here: nothing of it is recorded then, so whoever goes on with it asks again.
        False too when `leaf`, the command, was cut off meanwhile: in another segment another one may have its key.
        """
        run.apart += 1
        while run.behind and not run.gone:
            self._committer.mark(run)
            await asyncio.sleep(_LANE)
        run.apart -= 1
        ending = run.update is not None and run.update.action not in STAYS
        if run.gone or run.leaving or ending or run.stopping is not None:
            return False
        if leaf is None or run.execution.leaf(leaf.key) is not leaf:
            return False
        run.sending = True
        return True

    async def commit(self, run: LiveRun, entry: Entry, make: Callable[[Session], Op[R]]) -> R | Landed | None:
        """What came of it; None when the lease is over. `entry` has the run's next index."""
        failures = 0
        while True:
            session = self._session.current
            came: R | Landed | None
            try:
                came = await self._link.call(make(session))
            except DatabaseError as error:
                if error.sqlstate in AGAIN:
                    await self._session.again(error, failures)
                    failures += 1
                    continue
                if not error.transient:
                    raise
                failures += 1
                self._session.trouble(error, failures)
                await asyncio.sleep(backoff(failures))
                came = await self._unknown(run, entry)
                if came is None:
                    if self._session.is_lost(session):
                        return None
                    continue
            if came.what != "fenced":
                return came
            if self._session.lost(session):
                return None
            if self._session.current == session:  # another agent asked for the next epoch and was not answered
                came = await self._unknown(run, entry)
                if came is not None:
                    return came

    def landed(self, run: LiveRun, entry: Entry, came: Came) -> None:
        """The entry is durable: the run goes on."""
        run.next_index += 1
        due_at = came.due.get((run.run_id, entry.index), entry.due_at)
        stored = attrs.evolve(entry, recorded_at=came.now, due_at=due_at)
        self._told.committed([(Part(run, [stored]), None)], came.now)

    def lost(self, run: LiveRun) -> None:
        """The run is not this session's any more."""
        run.sending = False
        self._told.disowned(run)

    def refuse(self, run: LiveRun, entry: Entry, message: str, kind: str) -> None:
        """Nothing was written: the command fails with this."""
        run.sending = False
        failure = failure_to_json(Failure(kind, message))
        run.entries.append(
            attrs.evolve(entry, index=-1, kind=EntryKind.OUTCOME, status=OutcomeKind.FAILURE, value=failure, delay=None)
        )
        self._committer.mark(run)

    async def _unknown(self, run: LiveRun, entry: Entry) -> Landed | None:
        """After a lost answer: what was committed, or None when nothing was, or when the lease is over."""
        failures = 0
        while True:
            try:
                if await self._session.renew(self._link) is None:
                    return None
                stored = (await self._link.call(entries_room.read_back([run.run_id]))).get(run.run_id)
                if stored is None or stored.last_index < entry.index:
                    return None
                after = entry.index - 1
                page = await self._link.call(entries_room.page(run.run_id, base=0, prologue=0, after=after, limit=1))
                now = self._session.clock.now()
                due = {} if page[0].due_at is None else {(run.run_id, entry.index): page[0].due_at}
                return Landed(page[0].recorded_at or now, due)
            except DatabaseError as error:
                if not error.transient:
                    raise
                failures += 1
                await asyncio.sleep(backoff(failures))
