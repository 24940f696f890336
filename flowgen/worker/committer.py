"""Group commit without a timer: what became ready while the last flush was on its way goes into the next.

It sends one batch at a time, at most `ROWS` rows, and never two parts of one run. What a flush made durable is told
while the next one is on its way, so that the server works on one half of the runs and this process on the other. A
commit whose answer was lost is read back under the session's lock before anything else is said of it; a value that the
server refuses, or that cannot even be sent, fails its own run and never its neighbours: the batch is halved until it
stands alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from typing import Protocol, TypeAlias
from uuid import UUID

import attrs

from flowgen.core.entries import Entry
from flowgen.core.failures import failure_to_json
from flowgen.core.sealing import Seal
from flowgen.core.states import Status
from flowgen.errors import DatabaseError, Failure, LeaseLost
from flowgen.failpoints import ARMED
from flowgen.postgres import entries as entries_room
from flowgen.postgres.entries import Stored
from flowgen.postgres.rows import FlushBatch, FlushResult, RunAction, Session
from flowgen.worker import saying
from flowgen.worker.link import Link, backoff, is_local
from flowgen.worker.live import STAYS, LiveRun, Part
from flowgen.worker.points import flushed
from flowgen.worker.sealing import as_sent, sealed_part
from flowgen.worker.sessions import SessionHolder
from flowgen.worker.updates import end

__all__ = ["AGAIN", "REFUSED", "ROWS", "Committer", "Told"]

ROWS = 1000
"""Rows of one flush at the most, a single run's part aside."""
AT_ONCE = 200
"""Runs that go on before the event loop looks whether something has arrived."""

AGAIN = ("40001", "40P01")
"""What the server refused for others' sake, and wrote nothing of: it is sent again as it is."""
REFUSED = ("22", "23", "54")


Landed: TypeAlias = tuple[list[Part], FlushResult, Session]


class Told(Protocol):
    """Who is told what is sent, and what was committed: the runner."""

    def sends(self, part: Part) -> None: ...

    def committed(
        self, parts: Sequence[tuple[Part, int | None]], now: datetime, adopted: AbstractSet[UUID] = frozenset()
    ) -> None: ...

    def disowned(self, run: LiveRun) -> None: ...

    def unreadable(self, run: LiveRun, error: Exception) -> None: ...


class Committer:
    """Takes the parts of dirty runs and makes them durable."""

    def __init__(
        self,
        link: Link,
        session: SessionHolder,
        told: Told,
        lost_track: Callable[[], None],
        seal: Seal | None = None,
    ) -> None:
        """`lost_track` says that this session may own runs that nobody here knows."""
        self._seal = seal
        self._lost_track = lost_track
        self._link = link
        self._session = session
        self._told = told
        self._dirty: deque[LiveRun] = deque()
        self._wake = asyncio.Event()
        self.sending = False
        self._out = 0

    def mark(self, run: LiveRun) -> None:
        """The run has something to commit; nothing happens while a part of it is on its way."""
        if not run.marked and not run.sending and run.dirty:
            run.marked = True
            if not self._dirty:
                self._wake.set()
            self._dirty.append(run)

    @property
    def empty(self) -> bool:
        """Whether nothing waits for a commit or is on its way."""
        return not self._dirty and not self.sending

    @property
    def behind(self) -> int:
        """Runs that wait for a commit, or to be told of one."""
        return len(self._dirty) + self._out

    async def serve(self) -> None:
        """Flush until cancelled."""
        landed: list[Landed] = []
        while True:
            if not landed and not self._dirty:
                self.sending = False
                self._out = 0
                await self._wake.wait()
                self._wake.clear()
            self.sending = True
            parts = self._take()
            self._out = len(parts) + sum(len(told) for told, *_ in landed)
            if not landed:
                landed = await self._send(parts)
                continue
            if not parts:
                await self._tell(landed)
                landed = []
                continue
            sending = asyncio.create_task(self._send(parts))
            try:
                await asyncio.sleep(0)  # now it is on its way
                await self._tell(landed)
                landed = await sending
            finally:
                sending.cancel()

    def _take(self) -> list[Part]:
        parts: list[Part] = []
        rows = 0
        alone: LiveRun | None = None
        while self._dirty and rows < ROWS:
            run = self._dirty.popleft()
            run.marked = False
            if run.gone or run.sending or not run.dirty:
                continue
            if run.skips >= 3 and parts:
                alone = run
                break
            part = run.take()
            if part.children:
                self._told.sends(part)
            parts.append(part)
            rows += len(part.entries) + len(part.children) + (2 if part.update is not None else 0)
            if run.skips >= 3:
                break
        if alone is not None:
            alone.marked = True
            self._dirty.appendleft(alone)
        return parts

    async def _send(self, parts: list[Part], *, failing: bool = False) -> list[Landed]:
        """Make these parts durable. `failing`: the part of a run that fails for what the database refused of it."""
        failures = 0
        if self._seal is not None:
            for part in parts:
                part.sealed = part.sealed or sealed_part(self._seal, part)
        while True:
            # The next session may own such a run anew: what was dropped with the last one must not be written by it.
            parts = [part for part in parts if not part.run.gone]
            if not parts:
                return []
            session = self._session.current
            try:
                op = entries_room.flush(
                    session, _batch(parts if self._seal is None else [part.sealed or part for part in parts])
                )
                result = await self._link.call(flushed(op, parts) if ARMED else op)
                if not result.fenced:
                    break
            except LeaseLost:
                pass
            except Exception as error:
                state = error.sqlstate or "" if isinstance(error, DatabaseError) else ""
                if isinstance(error, DatabaseError) and state in AGAIN:
                    await self._session.again(error, failures)
                    failures += 1
                    continue
                if is_local(error) and not failing:
                    return await self._halve(await self._left(parts, session), error)
                if state.startswith(REFUSED) and not failing:
                    return await self._halve(parts, error)
                if not isinstance(error, DatabaseError) or not error.transient:
                    raise
                failures += 1
                self._session.trouble(error, failures)
                await asyncio.sleep(backoff(failures))
                parts = await self._left(parts, session)
                continue
            if self._session.lost(session):
                return []
            if self._session.current == session:  # another agent asked for the next epoch and was not answered
                parts = await self._left(parts, session)
        self._session.clock.heard(result.now)
        return [(parts, result, session)]

    async def _tell(self, landed: list[Landed]) -> None:
        for parts, result, session in landed:
            for start in range(0, len(parts), AT_ONCE):
                if start:
                    await asyncio.sleep(0)
                # What a session that is over has adopted is for whoever claims it next.
                adopted = frozenset[UUID]() if self._session.is_lost(session) else result.adopted
                self._tell_some(parts[start : start + AT_ONCE], result, adopted)

    def _tell_some(self, parts: Sequence[Part], result: FlushResult, adopted: AbstractSet[UUID]) -> None:
        skipped, landed, due, now = result.skipped, result.landed, result.due, result.now
        told: list[tuple[Part, int | None]] = []
        for part in parts:
            run = part.run
            if skipped and run.run_id in skipped:
                put_back(run, part)
                run.skips += 1
                self.mark(run)
                continue
            status = None
            if part.update is not None:
                status = landed.get(run.run_id)
                if status is None:
                    self._told.disowned(run)
                    continue
            for entry in part.entries:
                entry.recorded_at = now
                if entry.delay is not None:
                    entry.due_at, entry.delay = due[run.run_id, entry.index], None
            told.append((part, status))
        self._told.committed(told, now, adopted)

    async def _settle_unknown(self, parts: list[Part]) -> list[Part]:
        """After a lost answer: tell of the parts that did land, and give back those that did not.

        A new epoch first: a flush that is still on its way is refused from then on.
        """
        failures = 0
        left: list[Part] = []
        while True:
            try:
                session = await self._session.renew(self._link)
                if session is None:
                    return []
                stored = await self._link.call(entries_room.read_back([part.run.run_id for part in parts]))
                while parts:  # one by one: when this is interrupted, nobody is told twice
                    if not await self._has_landed(parts[0], stored.get(parts[0].run.run_id), session):
                        left.append(parts[0])
                    parts = parts[1:]
                    failures = 0
                return left
            except DatabaseError as error:
                if not error.transient:
                    raise
                failures += 1
                self._session.trouble(error, failures)
                await asyncio.sleep(backoff(failures))

    async def _has_landed(self, part: Part, stored: Stored | None, session: Session) -> bool:
        """As `_landed`; a run of which that cannot be read is given back."""
        try:
            return await self._landed(part, stored, session)
        except Exception as error:
            if not is_local(error):
                raise
            self._told.unreadable(part.run, error)
            self._lost_track()
            return True

    async def _landed(self, part: Part, stored: Stored | None, session: Session) -> bool:
        """Whether the part is in the store; then its run goes on as after any commit."""
        run = part.run
        ours = stored is not None and stored.owner == session.id and stored.claim == run.claimed.claim
        there = not ours
        if part.entries and stored is not None:
            there = stored.last_index >= part.entries[-1].index
        if ours and not there:
            return False
        if not ours and part.update is None:
            # It did not give the run away itself: the lease ended after the new epoch was given.
            self._told.disowned(run)
            return True
        if ours and part.entries:
            found = await self._stored(run.run_id, part.entries[0].index, len(part.entries))
            part.entries = found if self._seal is None else as_sent(found, part.entries)
        status = stored.status if stored is not None else Status.CANCELLED
        landed = None if ours else status if status != Status.RUNNING else Status.READY
        if part.children:
            self._lost_track()
        self._told.committed([(part, landed)], self._session.clock.now())
        return True

    async def _stored(self, run_id: UUID, first: int, count: int) -> list[Entry]:
        """So many entries from `first` on, in pages: one page may be too small for them."""
        found: list[Entry] = []
        more = True
        while more and len(found) < count:
            after = found[-1].index if found else first - 1
            page = await self._link.call(
                entries_room.page(run_id, base=0, prologue=0, after=after, limit=count - len(found))
            )
            found += page
            more = bool(page)
        return found

    async def _left(self, parts: list[Part], session: Session) -> list[Part]:
        """What is to be sent again, of parts of which no answer came, or none that can be read."""
        left = await self._settle_unknown(parts)
        return [] if self._session.is_lost(session) else left

    async def _halve(self, parts: list[Part], error: Exception) -> list[Landed]:
        if not parts:
            return []
        if len(parts) > 1:
            half = len(parts) // 2
            return [*await self._send(parts[:half]), *await self._send(parts[half:])]
        part = parts[0]
        run = part.run
        failure = Failure("CodecError", f"the database refused what {run.claimed.name} was to store: {_said(error)}")
        update = end(run, RunAction.FAIL, None, failure_to_json(failure))
        return await self._send([Part(run, (), update=update)], failing=True)


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, DatabaseError) else f"{type(error).__name__}: {error}"


def put_back(run: LiveRun, part: Part) -> None:
    """Give a part that was not committed back to its run, before what came since."""
    run.sending = run.leaving = False
    entries = sorted([*part.closed, *part.entries], key=lambda entry: entry.index) if part.closed else part.entries
    run.next_index -= len(entries)
    for entry in entries:
        entry.index = -1
    run.entries[:0] = entries
    run.told += len(part.closed) + part.told
    run.children[:0] = part.children
    run.schedules[:0] = part.schedules
    run.consumed[:0] = part.consumed
    run.effects[:0] = part.effects
    if part.update is not None:
        if run.prologue is None:
            run.prologue = part.update.prologue
        saying.put_back(run, part.update)
        if run.update is None and part.update.action not in STAYS:
            run.update = attrs.evolve(
                part.update, base=None, prologue=None, closed=None, progress=None, lasts=None, reports=None
            )


def _batch(parts: Sequence[Part]) -> FlushBatch:
    entries = [(part.run.run_id, entry) for part in parts for entry in part.entries]
    return FlushBatch(
        entries=entries,
        updates=[part.update for part in parts if part.update is not None],
        children=[child for part in parts for child in part.children],
        consumed=[(part.run.run_id, message) for part in parts for message in part.consumed],
        schedules=[(part.run.run_id, schedule) for part in parts for schedule in part.schedules],
        effects=[(part.run.run_id, effect) for part in parts for effect in part.effects],
    )
