"""Claims ready runs up to the room that there is, in the background, and hands them to the runner.

Polling is the truth: the queue is looked at again at the latest after `poll`, earlier when something is due or somebody
pokes it; while nothing is ready the janitor's looks are enough. A run that was recovered twice without progress is a
suspect: it is claimed alone, when nothing else is live here.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import attrs

from flowgen.core.entries import Entry
from flowgen.core.settings import Settings
from flowgen.errors import DatabaseError, LeaseLost
from flowgen.failpoints import ARMED
from flowgen.postgres import claims, notifications, workers
from flowgen.postgres import entries as entries_room
from flowgen.postgres.rows import Claimed, ClaimedRun, FlushBatch, Session
from flowgen.postgres.staged import staged
from flowgen.worker.clock import DatabaseClock, monotonic
from flowgen.worker.executor import Executor
from flowgen.worker.link import Link, backoff, is_local
from flowgen.worker.live import LiveRun
from flowgen.worker.runner import Runner
from flowgen.worker.sessions import SessionHolder
from flowgen.worker.updates import is_poison, parked

__all__ = ["Claimer"]

_log = logging.getLogger("flowgen.worker")

POINTS = "claim.before", "claim.after_select", "claim.before_commit", "claim.after_commit"

BATCH = 500
"""Runs of one claim at the most."""
LIVE = 4000
"""Live runs at the most, however fast they are."""
BEHIND = 1500
"""Runs that wait for a commit at the most: more would only wait here, in memory."""
WHOLE = 20
"""A look at a whole queue is followed by looks at its end only for so many times as long as it took."""
ALONE = 5.0
"""Seconds within which a busy worker begins to make room for a suspect, and for which it tries."""
AGAIN = 1.0
"""Seconds after which a run is given back again whose row somebody had locked."""
BACKLOG = 0.25
"""Seconds of work that may wait here: more is left to other workers."""

IN_A_ROW = 0.005
"""Seconds between two looks that found something, within which they are a sign of much to do."""
UNDER_WAY = 0.05
"""Seconds within which a start is committed that was under way when this worker said that it is idle."""


class Claimer:
    """The only one who claims."""

    def __init__(
        self,
        link: Link,
        session: SessionHolder,
        clock: DatabaseClock,
        settings: Settings,
        queues: Sequence[str] | None,
        runner: Runner,
        executor: Executor,
    ) -> None:
        self._link = link
        self._session = session
        self._clock = clock
        self._settings = settings
        self._queues = queues
        self._runner = runner
        self._executor = executor
        self._wake = asyncio.Event()
        self._due_at: datetime | None = None
        self._idle_as: UUID | None = None
        self._found = 0
        self._found_at = 0.0
        self.unsure = False
        """This session may own runs that nobody here knows."""
        self._one_by_one = 0
        """Claims of a single run that are still to come, after one that could not be read."""
        self._since: datetime | None = None
        self._whole_at = 0.0
        self._alone_at: float | None = None
        self._said = False
        self._resting = False
        self._nothing_at = 0.0
        self.stopped = False
        self.dry = asyncio.Event()
        """Set when a look at the queue found nothing while nothing was live here."""

    def poke(self) -> None:
        """Look now: something may be ready."""
        self._wake.set()

    def nothing_ready(self) -> None:
        """Somebody has just looked: no run is ready anywhere."""
        self._nothing_at = monotonic()

    def wake_at(self, due_at: datetime) -> None:
        """Look at this time at the latest."""
        if self._due_at is None or due_at < self._due_at:
            self._due_at = due_at
            self._wake.set()

    async def serve(self) -> None:
        """Claim until cancelled."""
        failures = 0
        while True:
            try:
                wait = await self._look()
                failures = 0
            except LeaseLost:
                self._session.lost(self._session.current)
                wait = 0.1
            except DatabaseError as error:
                if not error.transient:
                    raise
                self.unsure = True
                failures += 1
                self._session.trouble(error, failures)
                wait = backoff(failures)
            await self._pause(wait)

    async def _pause(self, seconds: float) -> None:
        begun = monotonic()
        latest = begun + (math.inf if self._due_at is None else self._clock.until(self._due_at) + 0.001)
        while (until := min(latest, max(begun + seconds, self._rests_until))) > monotonic():
            try:
                async with asyncio.timeout(until - monotonic()):
                    await self._wake.wait()
                break
            except TimeoutError:
                pass
        self._wake.clear()

    @property
    def _rests_until(self) -> float:
        """Until when no look of this claimer is needed, as another one has found nothing."""
        return self._nothing_at + self._settings.poll.total_seconds() if self._resting else 0.0

    def lost_track(self) -> None:
        """This session may own runs that nobody here knows: they are given back before the next claim."""
        self.unsure = True
        self._wake.set()

    def room(self) -> int:
        """How many more runs can be taken: as many as the functions will get to soon."""
        if self._executor.starved:
            return 0
        live = self._runner.count()
        seconds = max(self._executor.mean_seconds, 0.00005)
        backlog = int(min(LIVE, max(self._executor.size, self._executor.size * BACKLOG / seconds)))
        return min(LIVE - live, backlog - self._executor.pending)

    async def _look(self) -> float:
        """One look at the queue; the seconds until the next."""
        self._resting = False
        if self.stopped or self._session.fenced:
            return self._settings.poll.total_seconds()
        if self.unsure:
            await self.give_back()
        if self._alone_at is not None and monotonic() >= self._alone_at:
            return await self._suspect()
        room = min(BATCH, self.room(), BEHIND - self._runner.agents.committer.behind)
        if room <= 0:
            return 0.1 if self._executor.starved else 0.005
        if self._one_by_one:
            room = 1
            self._one_by_one -= 1
        if self._due_at is not None and self._clock.until(self._due_at) == 0:
            await self._promote()
        session = self._session.current
        begun = monotonic()
        since = self._since if begun < self._whole_at else None
        have = self._runner.cache.haves()
        quiet = not self._runner.count()
        op = claims.claim(session, room, queues=self._queues, have=have, since=since)
        if ARMED:
            op = staged(op, before=POINTS[:1], executed=POINTS[1:3], after=POINTS[3:])
        try:
            claimed = await self._link.call(op)
        except Exception as error:
            if not is_local(error):
                raise
            await self._unreadable(error, room)
            return 0.0
        self._clock.heard(claimed.now)
        if since is None:
            ended = monotonic()
            self._whole_at = ended + WHOLE * (ended - begun)
        self._since = claimed.since
        if claimed.fenced:
            return 0.1 if self._session.lost(session) else 0.0
        return await self._taken(claimed, room, session, whole=since is None, quiet=quiet)

    async def _taken(self, claimed: Claimed, room: int, session: Session, *, whole: bool, quiet: bool) -> float:
        self._due_at = claimed.next_due_at
        if claimed.runs:
            self._runner.accept(await self._whole(claimed.runs, session))
            if len(claimed.runs) >= room // 2:
                return 0.0
        if not whole:
            self._since = None
            return 0.0
        if not claimed.suspects:
            self._alone_at = None
        elif not self._runner.count():
            return await self._suspect()
        elif self._alone_at is None:
            self._alone_at = monotonic() + ALONE * random.random()  # noqa: S311 - spreads load, guards nothing
        if claimed.busy:
            return 0.002 + random.random() * 0.008  # noqa: S311 - spreads load, guards nothing
        if claimed.runs:
            now = monotonic()
            self._found = self._found + 1 if now - self._found_at < IN_A_ROW else 1
            self._found_at = now
            if self._idle and self._found > 20:
                await self._say_idle(False)
            if not self._idle:
                return 0.005  # nobody tells of more
        else:
            if not self._idle:
                await self._say_idle(True)
                self._said = True
                return 0.0
            if quiet and not self._runner.count():  # what was here when it looked may have made runs ready since
                self.dry.set()
            if self._said:
                self._said = False
                return UNDER_WAY
            self._resting = quiet and not self._runner.count()
        return self._settings.poll.total_seconds() * (0.8 + 0.2 * random.random())  # noqa: S311

    async def _say_idle(self, idle: bool) -> None:
        """Ask for notifications while there is little to do; the queue is looked at again after that, twice."""
        session = self._session.current
        await self._link.call(notifications.say_idle(session, idle))
        self._idle_as = session.id if idle else None

    @property
    def _idle(self) -> bool:
        """Whether this session asked for notifications; a new one has not."""
        return self._idle_as == self._session.current.id

    async def _promote(self) -> None:
        while True:
            promoted = await self._link.call(claims.promote(BATCH))
            self._due_at = promoted.next_due_at
            if promoted.count < BATCH:
                return

    async def _whole(self, runs: Sequence[ClaimedRun], session: Session) -> list[tuple[ClaimedRun, LiveRun | None]]:
        """Each run with what the cache holds of it, or else with its whole history; none when the session is over.

        The cache is asked at once: what it held when the claim was sent may leave it while a history is read.
        """
        revived = [(run, self._runner.cache.revived(run)) for run in runs]
        whole = [(run if live is not None else await self._read(run), live) for run, live in revived]
        if not self._session.is_lost(session):
            return whole
        for _, live in whole:  # they go on elsewhere, as the others of that session do
            if live is not None:
                live.execution.close()
        return []

    async def _read(self, run: ClaimedRun) -> ClaimedRun:
        """The run with its history; one that is too large for a claim, or came in part, is read in pages."""
        if run.entries is not None and not run.partial:
            return run
        entries: list[Entry] = []
        while True:
            after = entries[-1].index if entries else run.floor - 1
            try:
                page = await self._link.call(
                    entries_room.page(run.run_id, base=run.base, prologue=run.prologue, after=after)
                )
            except Exception as error:
                if not is_local(error):
                    raise
                return attrs.evolve(run, entries=(), partial=False, unreadable=f"{type(error).__name__}: {error}")
            if not page:
                return attrs.evolve(run, entries=entries, partial=False)
            entries.extend(page)

    async def _unreadable(self, error: Exception, room: int) -> None:
        """The answer of a claim cannot be read: what it took is claimed one by one, and who is alone then is parked."""
        self.unsure = True
        if room > 1:
            self._one_by_one = room
            return
        session = self._session.current
        owned = await self._link.call(claims.owned(session))
        found = {run: claim for run, claim in owned.items() if not self._runner.holds(run, claim)}
        if len(found) != 1:
            raise error
        ((run_id, claim),) = found.items()
        _log.error("run %s cannot be read, and is parked: %s", run_id, error)
        await self._link.call(entries_room.flush(session, FlushBatch(updates=[parked(run_id, claim, error)])))

    async def give_back(self) -> None:
        """After a lost answer: what this session owns and was not given is for whoever claims next.

        Until it is known to be given back this worker stays `unsure`. Raises DatabaseError, and is unsure then too.
        """
        if self._runner.adoption.pending():
            return  # some of it may be on its way here
        self.unsure = False  # what is lost track of from here on is looked for again
        done = False
        try:
            done = await self._given_back()
        finally:
            self.unsure = self.unsure or not done

    async def _given_back(self) -> bool:
        """Whether all is given back, or will be. A release under an epoch that is over is refused."""
        session = await self._session.renew(self._link)
        if session is None:
            return True
        owned = await self._link.call(claims.owned(session))
        if self._runner.adoption.pending():
            return False
        unknown = [run for run, claim in owned.items() if not self._runner.holds(run, claim)]
        released = await self._link.call(claims.release(session, unknown))
        if released is not None and released < len(unknown):
            asyncio.get_running_loop().call_later(AGAIN, self.lost_track)
        return released is not None

    async def _suspect(self) -> float:
        """Take a suspect when nothing else is here; until then claim nothing, so that the others end."""
        if self._runner.count():
            if self._alone_at is not None and monotonic() > self._alone_at + ALONE:
                self._alone_at = None  # something here takes long: leave the suspect to another worker, for a while
            return 0.02
        self._alone_at = None
        # The room took the others their time, so more suspects come first, for a while.
        wait, until = self._settings.poll.total_seconds(), monotonic() + ALONE
        while monotonic() < until and not self.stopped and not self._session.fenced:
            session = self._session.current
            claimed = await self._link.call(claims.claim_suspect(session, queues=self._queues))
            self._clock.heard(claimed.now)
            if claimed.fenced:
                return 0.1 if self._session.lost(session) else 0.0
            if not claimed.runs:
                return wait
            runs = [await self._blamed(run) for run in claimed.runs]
            self._runner.take(await self._whole(runs, session))
            while self._runner.count() and not self._session.fenced:
                await self._pause(0.02)
            wait = 0.0
        return 0.0

    async def _blamed(self, run: ClaimedRun) -> ClaimedRun:
        """A suspect that is not tried again is told with the workers that it ended."""
        if not is_poison(run, self._settings):
            return run
        return attrs.evolve(run, victims=await self._link.call(workers.victims(run.run_id)))
