"""One worker: opens the database, registers a session, starts the agents, and stops them gracefully.

`Worker.serve` runs on one event loop until it is told to stop. Everything that it owns ends before it returns: no
thread of its own, no connection and no task is left, and its session is released so that others go on at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any
from uuid import UUID

from flowgen.app import App
from flowgen.core.sealing import Seal
from flowgen.core.settings import Settings
from flowgen.errors import DatabaseError, LeaseLost
from flowgen.failpoints import ARMED, failpoint
from flowgen.postgres import claims, database, inbox, notifications, workers
from flowgen.postgres.rows import Session
from flowgen.worker.adoption import Adoption
from flowgen.worker.apart import Apart
from flowgen.worker.attacher import Attacher
from flowgen.worker.canceller import Canceller
from flowgen.worker.claimer import Claimer
from flowgen.worker.clock import DatabaseClock, monotonic
from flowgen.worker.committer import Committer
from flowgen.worker.dialler import Dialler
from flowgen.worker.executor import Executor
from flowgen.worker.heartbeat import Heartbeat
from flowgen.worker.herald import Herald
from flowgen.worker.janitor import Janitor
from flowgen.worker.link import Link, backoff
from flowgen.worker.lookout import Lookout
from flowgen.worker.making import Maker
from flowgen.worker.ports import Agents
from flowgen.worker.registration import Registration
from flowgen.worker.runner import Runner
from flowgen.worker.scheduler import Scheduler
from flowgen.worker.sender import Sender
from flowgen.worker.services import enter_services
from flowgen.worker.sessions import SessionHolder
from flowgen.worker.timers import Timers
from flowgen.worker.transactor import Transactor
from flowgen.worker.watchdog import Watchdog

__all__ = ["Worker", "default_threads"]

_log = logging.getLogger("flowgen.worker")
LEAVING = 2.0
"""Seconds for which a worker that stops tries to give its session back."""
HINTS = 0.02
"""Seconds between two notifications of one worker at the least."""
TASKS = 100
"""Async functions in flight, unless `concurrency` says otherwise."""

_IDLE = 4
"""Leases without a statement after which the server ends a Transaction, and with it the locks of a stopped process."""


def default_threads() -> int:
    """Sync functions in flight, unless `concurrency` says otherwise."""
    return min(32, (os.cpu_count() or 1) + 4)


class Worker:
    """A worker of one process. Use `flowgen.run` or `flowgen.worker`."""

    def __init__(
        self,
        url: str,
        app: App,
        settings: Settings,
        *,
        queues: Sequence[str] | None = None,
        concurrency: int | None = None,
        on_session: Callable[[UUID], None] = lambda session: None,
    ) -> None:
        """`url` has a schema that fits. `on_session` hears of each session that is registered."""
        self.url = url
        self.app = app
        self.settings = settings
        self.schema = database.Schema(settings.schema)
        self._queues = None if queues is None else list(queues)
        self._threads = concurrency or default_threads()
        self._tasks = concurrency or TASKS
        self._on_session = on_session
        self._links: list[Link] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._forced: asyncio.Event | None = None
        self._stop_asked = False
        self.runner: Runner | None = None
        self.ready = False
        """Registered and claiming."""

    # from any thread

    def stop(self) -> None:
        """Stop gracefully; the second time at once. May be called from any thread."""
        loop, stop, forced = self._loop, self._stop, self._forced
        if loop is None or stop is None or forced is None:
            self._stop_asked = True
            return
        event = forced if self._stop_asked else stop
        self._stop_asked = True
        try:
            loop.call_soon_threadsafe(event.set)
        except RuntimeError:  # the loop has ended: there is nothing to stop
            pass

    def busy_with(self) -> list[str]:
        """Names of the steps in flight, for the message of the first Ctrl-C."""
        if self.runner is None:
            return []
        return [key for run in list(self.runner.live.values()) for key in list(run.calls)]

    # the loop

    async def serve(self, *, drain: bool = False, started: Callable[[], None] = lambda: None) -> None:
        """Work until `stop`; with `drain` until nothing is due."""
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._forced = asyncio.Event()
        self._hint = asyncio.Event()
        self._fenced = asyncio.Event()
        self._look = asyncio.Event()
        async with AsyncExitStack() as stack:
            services = await enter_services(self.app.services, stack)
            await self._serve(services, drain, started)

    async def _serve(self, services: Any, drain: bool, started: Callable[[], None]) -> None:
        assert self._loop is not None
        assert self._stop is not None
        control = self._link("control")
        try:
            self._registration = Registration(control, self.app, self.settings, self._queues, self._on_session)
            session, now = await self._registration.register()
            clock = DatabaseClock(now)
            await self._registration.declare(now)
            secret = await self._registration.secret()
            holder = SessionHolder(session, clock, _log, self._on_lost)
            self._assemble(holder, clock, control, services, secret)
            self._heartbeat.start()
            started()
            self.ready = True
            await self._work(holder, control, drain)
        finally:
            for link in self._links:
                await link.close()

    def _link(self, name: str) -> Link:
        spare = self._links[0] if self._links else None
        lasting = name in ("control", "claim")  # what an idle worker has, with its heartbeat's
        link = Link(self.url, self.schema, name, pooler=self.settings.pooler, spare=spare, lasting=lasting)
        self._links.append(link)
        return link

    def _assemble(
        self, holder: SessionHolder, clock: DatabaseClock, control: Link, services: Any, secret: bytes
    ) -> None:
        loop = self._loop
        assert loop is not None
        self._holder = holder
        self._clock = clock
        self._control = control
        executor = Executor(loop, threads=self._threads, tasks=self._tasks, interrupted=self.stop)
        flush = self._link("flush")
        self._watchdog = Watchdog(_log, loop)
        self._canceller = Canceller(loop, control, holder, self._notified)
        agents = Agents(
            loop=loop,
            settings=self.settings,
            log=_log,
            clock=clock,
            timers=Timers(clock, loop),
            executor=executor,
            watchdog=self._watchdog,
            cancel_runs=self._canceller.submit,
            poke=self._poke,
            announce=lambda: self._herald.poke(),
            wake_at=self._wake_at,
        )
        seal = Seal.of(self.settings)
        maker = Maker(self.app, services, self.settings, clock.now, secret=secret)
        adoption = Adoption(self.app.definitions, self._queues)
        self.runner = runner = Runner(agents, maker, adoption)
        self._committer = Committer(flush, holder, runner, lambda: self._claimer.lost_track(), seal)
        self._dialler = dialler = Dialler(self.url, executor, self._links, pooler=self.settings.pooler)
        self._transactor = Transactor(
            dialler, self.schema, holder, executor, control, runner.committed, self._committer.mark,
            idle=_IDLE * self.settings.lease, seal=seal,
        )  # fmt: skip
        attaching, sending = (Apart(self._link(name), holder, runner, self._committer) for name in ("attach", "send"))
        agents.attacher = self._attacher = Attacher(attaching, self._poke, seal)
        agents.sender = self._sender = Sender(sending, self._poke, seal)
        agents.committer = self._committer
        agents.transactor = self._transactor
        self._executor = executor
        self._claimer = Claimer(self._link("claim"), holder, clock, self.settings, self._queues, runner, executor)
        adoption.room = self._claimer.room
        self._scheduler = Scheduler(control, holder, self._claimer.poke)
        self._herald = Herald(control, holder, self.settings, self._poke)
        self._janitor = Janitor(control, holder, self.settings, self._claimer, self._scheduler, self._herald, runner)
        self._heartbeat = Heartbeat(
            self.url,
            self.schema,
            self.settings,
            session=lambda: None if holder.fenced else holder.current,
            lost=lambda session: self._soon(lambda: self._lost(session)),
            beaten=lambda now: self._soon(lambda: self._heard(now)),
            notified=lambda events: self._soon(lambda: self._notified(events)),
            no_room=lambda: self._soon(self._make_room),
        )
        executor.trusted = self._heartbeat.trusted
        executor.short = lambda: self._transactor.short() or self._heartbeat.refused

    async def _work(self, holder: SessionHolder, control: Link, drain: bool) -> None:
        runner = self.runner
        assert self._stop is not None
        assert runner is not None
        loops: list[Coroutine[Any, Any, None]] = [
            self._committer.serve(),
            runner.serve(),
            self._attacher.serve(),
            self._sender.serve(),
            self._dialler.serve(),
            self._canceller.serve(),
            self._claimer.serve(),
            self._janitor.serve(),
            self._scheduler.serve(),
            self._herald.serve(),
            Lookout(control).serve(),
            self._news(),
            self._reregister(),
            self._hints(),
        ]
        tasks = [asyncio.create_task(loop) for loop in loops]
        stop = asyncio.create_task(self._stop.wait())
        if self._stop_asked:
            self._stop.set()
        ends = [stop]
        if drain:
            ends.append(asyncio.create_task(self._claimer.dry.wait()))
        try:
            done, _ = await asyncio.wait([*tasks, *ends], return_when=asyncio.FIRST_COMPLETED)
            failed = [task.exception() for task in done if task in tasks and task.exception() is not None]
            await self._drain()
            if failed and failed[0] is not None:
                raise failed[0]
        finally:
            for task in [*tasks, *ends]:
                task.cancel()
            await asyncio.gather(*tasks, *ends, return_exceptions=True)
            await self._close(holder, control)

    # news

    async def _news(self) -> None:
        """Requests and messages for the runs that are running here."""
        link = self._control
        while True:
            runner = self.runner
            assert runner is not None
            if runner.live and not self._holder.fenced:
                try:
                    runner.hear(await link.call(inbox.news(self._holder.current, runner.letters())))
                except DatabaseError as error:
                    if not error.transient:
                        raise
                    self._holder.trouble(error, 1)
            try:
                async with asyncio.timeout(self.settings.poll.total_seconds()):
                    await self._look.wait()
            except TimeoutError:
                pass
            self._look.clear()

    def _notified(self, events: bool = False) -> None:
        self._claimer.poke()
        if events:
            self._herald.poke()
        self._look.set()

    def _make_room(self) -> None:
        """The heartbeat comes first."""
        assert self._loop is not None
        self._making_room = self._loop.create_task(self._dialler.make_room())

    def _poke(self) -> None:
        """Something may be ready: for this worker, or for one that is idle."""
        self._notified()
        self._hint.set()

    async def _hints(self) -> None:
        """Tell idle workers, at most every few milliseconds and never within a commit."""
        link = self._control
        while True:
            await self._hint.wait()
            self._hint.clear()
            if not self.settings.pooler:
                try:
                    await link.call(notifications.notify(self.schema))
                except DatabaseError as error:
                    self._holder.trouble(error, 1)
            await asyncio.sleep(HINTS)

    def _wake_at(self, due_at: datetime) -> None:
        self._claimer.wake_at(due_at)

    def _heard(self, now: datetime) -> None:
        self._clock.heard(now)

    def _soon(self, call: Callable[[], object]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:  # the loop has ended while the heartbeat was still waiting
            pass

    # leases

    def _lost(self, session: Session) -> None:
        if not self._holder.is_lost(session):
            self._holder.over()

    def _on_lost(self) -> None:
        assert self.runner is not None
        self.runner.drop_all()
        self._fenced.set()

    async def _reregister(self) -> None:
        """After a lost lease: a new session, under a new id."""
        while True:
            await self._fenced.wait()
            self._fenced.clear()
            session, now = await self._registration.register(self._outlived())
            self._heartbeat.registered(self._registration.asked_at)
            self._clock.heard(now)
            self._holder.registered(session)
            self._claimer.poke()

    def _outlived(self) -> workers.Lost:
        """The session that is over, and why, as this process lives."""
        return workers.Lost(self._holder.current.id, self._heartbeat.excuse())

    # the end

    async def _drain(self) -> None:
        """Claim nothing more, let calls end within the grace, commit, release."""
        assert self.runner is not None
        assert self._forced is not None
        self._claimer.stopped = True
        self.runner.stop_all()
        until = monotonic() + self.settings.grace.total_seconds()
        while not self._still and monotonic() < until and not self._forced.is_set():
            await asyncio.sleep(0.005)
        self.runner.abort_all("shutdown")
        until = monotonic() + 1.0
        while not self._still and monotonic() < until:
            await asyncio.sleep(0.005)

    @property
    def _still(self) -> bool:
        assert self.runner is not None
        return self._holder.fenced or (not self.runner.count() and self._committer.empty)

    async def _close(self, holder: SessionHolder, control: Link) -> None:
        self.ready = False
        self._heartbeat.stop()
        self._watchdog.stop()
        await self._dialler.close()
        self._executor.close()
        assert self.runner is not None
        await self._leave(holder, control)
        self.runner.drop_all()
        await asyncio.to_thread(self._heartbeat.join)

    async def _leave(self, holder: SessionHolder, control: Link) -> None:
        """End the session, so that nobody waits for its lease; for `LEAVING` also when it is not answered."""
        until = monotonic() + LEAVING
        failures = 0
        while True:
            try:
                if holder.fenced:
                    await control.call(workers.excuse(self._outlived()))
                    return
                if ARMED:
                    failpoint("shutdown.before_release")
                await control.call(claims.release(holder.current))
                if ARMED:
                    failpoint("shutdown.after_release")
                await control.call(workers.leave(holder.current))
                await control.call(workers.reap())
                return
            except (DatabaseError, LeaseLost) as error:
                failures += 1
                transient = isinstance(error, DatabaseError) and error.transient
                if not transient or monotonic() > until:
                    _log.warning("the session could not be released (%s); its lease ends by itself", error)
                    return
            await asyncio.sleep(backoff(failures))
