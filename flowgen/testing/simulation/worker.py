"""One virtual worker: the agents of `flowgen.worker` that decide and commit, as they are, on a loop that never waits.

Real are the runner with its live runs, cache and adoption, the committer, the attacher, the canceller, the transactor
and the session that fences them. Stood in for are those that only wait or look: threads, timers, the heartbeat, the
claimer's and the janitor's polls; the world does what they would do when the schedule comes to it. The invariant:
whatever this worker wants from the store or from a function stands in `requests`, `executor.jobs` or `loop.pauses`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import attrs

from flowgen.core.decision import Decision
from flowgen.core.entries import Entry
from flowgen.errors import DatabaseError
from flowgen.postgres.rows import Claimed, ClaimedRun, Owned, Session
from flowgen.testing.simulation.connection import Dialler, Statements
from flowgen.testing.simulation.loop import Loop
from flowgen.testing.simulation.requests import Link, Request
from flowgen.testing.simulation.threads import Clock, Executor, Timers
from flowgen.worker.adoption import Adoption
from flowgen.worker.apart import Apart
from flowgen.worker.attacher import Attacher
from flowgen.worker.canceller import Canceller
from flowgen.worker.claimer import Claimer
from flowgen.worker.committer import Committer
from flowgen.worker.executor import RunningCall
from flowgen.worker.live import LiveRun
from flowgen.worker.making import Maker
from flowgen.worker.ports import Agents
from flowgen.worker.runner import Runner
from flowgen.worker.sender import Sender
from flowgen.worker.sessions import SessionHolder
from flowgen.worker.transactor import Transactor

if TYPE_CHECKING:
    from flowgen.testing.simulation.world import World

__all__ = ["UNMADE", "Worker"]

UNMADE: Any = object()
"""`services` of an execution that was not driven yet."""

_LOG = logging.Logger("flowgen.simulation")
_LOG.disabled = True


def _nothing(*_: object) -> None:
    pass


class Worker:
    """One process, from its start to its death."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.alive = False
        self.stalled = False
        self.mute = False
        """Its signs of life do not arrive."""
        self.stopping = False
        self.alone = False
        """It has claimed a suspect, and claims nothing beside it."""
        self.claiming = self.hearing = self.gave_back = False
        self.giving_back: asyncio.Task[None] | None = None
        self.requests: list[Request] = []

    def start(self) -> None:
        """The process begins, and registers."""
        self.alive = True
        self.loop = Loop()
        self.timers = Timers()
        self.executor = Executor(self.loop)
        store = self.world.store
        self.link = Link(self.loop, store, self.requests)
        clock: Any = Clock(lambda: store.now)
        self.holder = SessionHolder(store.register(), clock, _LOG, self._on_lost)
        self._assemble(clock)
        self.loop.run(self._begin)

    @property
    def name(self) -> str:
        return f"worker {self.number + 1}"

    @property
    def up(self) -> bool:
        """Whether it does anything."""
        return self.alive and not self.stalled

    def _assemble(self, clock: Any) -> None:
        plan, link, executor = self.world.plan, cast(Any, self.link), cast(Any, self.executor)
        self._canceller = Canceller(cast(Any, self.loop), link, self.holder, _nothing)
        agents = Agents(
            loop=cast(Any, self.loop),
            settings=self.world.settings,
            log=_LOG,
            clock=clock,
            timers=cast(Any, self.timers),
            executor=executor,
            watchdog=cast(Any, self),
            cancel_runs=self._canceller.submit,
            poke=_nothing,
            announce=_nothing,
            wake_at=_nothing,
        )
        app = SimpleNamespace(definitions=plan.definitions)
        maker = Maker(cast(Any, app), UNMADE, self.world.settings, clock.now, secret=b"", entropy=self.world.entropy)
        adoption = Adoption(plan.definitions, None)
        adoption.room = lambda: self.world.adopts
        self.runner = runner = Runner(agents, maker, adoption)
        self.claimer = Claimer(link, self.holder, clock, self.world.settings, None, runner, executor)
        self.committer = Committer(link, self.holder, runner, self.claimer.lost_track)
        agents.committer = self.committer
        apart = Apart(link, self.holder, runner, self.committer)
        agents.attacher = self._attacher = Attacher(apart, _nothing)
        agents.sender = self._sender = Sender(apart, _nothing)
        self._transactor = Transactor(
            cast(Any, Dialler(partial(self.world.server.finish_transaction, self))),
            cast(Any, Statements()),
            self.holder,
            executor,
            link,
            runner.committed,
            self.committer.mark,
        )
        agents.transactor = cast(Any, self)

    def _begin(self) -> None:
        self.loop.agent(self.committer.serve())
        self.loop.agent(self._attacher.serve())
        self.loop.agent(self._canceller.serve())
        self.loop.agent(self._sender.serve())

    # in the place of the watchdog

    def many(self) -> AbstractContextManager[None]:
        return self.loop.hidden

    def drive(self, run: LiveRun, delivered: Sequence[Entry], now: datetime) -> Decision:
        """`Execution.advance`, and the witness looks on."""
        world, execution = self.world, run.execution
        if delivered:
            world.witness.delivered(run, delivered)
        if execution.facts.services is UNMADE:
            execution.facts.services = world.plan.services()
        with self.many():
            decision = execution.advance(now, delivered)
        if decision.children:
            world.calling.children_of(run, decision)
        if execution.waiting.leaves:
            row = world.store.runs[run.run_id]
            for leaf in execution.waiting.leaves:
                if world.plan.outcomes:
                    world.outside.waited_for(run, leaf)
                if leaf.due_at is not None:
                    own = () if leaf.due_at in row.dues else attrs.astuple(cast(Any, leaf.command), recurse=False)
                    world.witness.waits(row, leaf.key, leaf.due_at, own)
        return decision

    # in the place of the transactor's door

    def submit(self, run: LiveRun, running: RunningCall) -> None:
        """A Transaction: what the test scripts takes the place of its function."""
        running.call = self.world.calling.scripted(self, running)
        self._transactor.submit(run, running)

    # in the place of the claimer and of the news

    def claimed(self, session: Session, claimed: Claimed) -> None:
        """An answer to a claim."""
        self.claiming = False
        if claimed.fenced:
            self.holder.lost(session)
            return
        whole = [self._whole(run) for run in claimed.runs]
        if self.holder.is_lost(session):
            for _, live in whole:
                if live is not None:
                    live.execution.close()
            return
        self.runner.accept(whole)

    def _whole(self, run: ClaimedRun) -> tuple[ClaimedRun, LiveRun | None]:
        live = self.runner.cache.revived(run)
        if live is None and run.partial:
            entries = self.world.store.page(run.run_id, run.base, run.prologue, -1, 1 << 30, 0)
            return attrs.evolve(run, entries=entries, partial=False), None
        return run, live

    def claim_failed(self, error: BaseException) -> None:
        self.claiming = False
        self.claimer.lost_track()

    def give_back(self) -> None:
        """What the claimer does before it claims again."""
        self.giving_back = self.loop.agent(self._give_back())

    async def _give_back(self) -> None:
        try:
            await self.claimer.give_back()
        except DatabaseError:
            pass
        finally:
            self.giving_back = None
            self.gave_back = True

    def heard(self, news: Sequence[Owned]) -> None:
        self.hearing = False
        self.runner.hear(news)

    def not_heard(self, error: BaseException) -> None:
        self.hearing = False

    # its end

    def _on_lost(self) -> None:
        self.world.tell(self, "learns that its lease is over, and drops what it has")
        self.runner.drop_all()

    def stop(self) -> None:
        """SIGTERM."""
        self.stopping = True
        self.loop.run(self.runner.stop_all)

    @property
    def still(self) -> bool:
        """Whether a worker that stops has given everything back."""
        return self.holder.fenced or (not self.runner.count() and self.committer.empty)

    def die(self) -> None:
        """The process is gone, and what it had in memory with it."""
        self.alive = False
        self.loop.run(self.runner.drop_all)
        self.loop.close()
        self.executor.jobs.clear()
