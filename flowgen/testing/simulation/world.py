"""One schedule, from the start of the run to the end of all runs: what happens next, and what goes wrong with it.

Whatever the workers, the server, the users and the clock could do next is an event; the choices say which one comes.
An event may go another way than it should: that is a choice too. When the choices are used up, the oldest event comes
first and nothing goes wrong any more; then all must come to an end. The invariant: what happens is a function of the
plan and the choices.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import Any, Final, TypeAlias

import attrs

from flowgen.core.states import FINAL, Status
from flowgen.testing.simulation import clients, mishaps
from flowgen.testing.simulation.calling import Calling
from flowgen.testing.simulation.choices import Choices
from flowgen.testing.simulation.outside import Outside
from flowgen.testing.simulation.plan import Plan
from flowgen.testing.simulation.requests import Request
from flowgen.testing.simulation.row import Row
from flowgen.testing.simulation.server import Server
from flowgen.testing.simulation.store import SUSPECT, Store
from flowgen.testing.simulation.witness import Violated, Witness
from flowgen.testing.simulation.worker import Worker
from flowgen.worker.live import LiveRun

__all__ = ["World"]

Event: TypeAlias = tuple[Callable[..., object], tuple[Any, ...]]

MAX_EVENTS: Final = 20_000
"""Events after which a run is taken for one that never ends."""
DRAIN: Final = 6_000
"""Events within which everything ends once nothing goes wrong any more."""
_MOMENT: Final = timedelta(milliseconds=1)


@attrs.define
class Look:
    """What the rows say could happen."""

    ready: list[Row] = attrs.field(factory=list)
    suspects: list[Row] = attrs.field(factory=list)
    scripted: list[Row] = attrs.field(factory=list)
    news: list[Row] = attrs.field(factory=list)
    next_at: datetime | None = None
    due: bool = False
    paused: bool = False
    cascade: bool = False
    over: bool = True


class World:
    """The store, the workers and what is between them."""

    def __init__(self, plan: Plan, choices: Choices, story: list[str] | None = None) -> None:
        """What happens is told to `story`, a line each."""
        self.plan = plan
        self.choices = choices
        self.story = story
        self.witness = Witness()
        self.entropy = Random(plan.seed).randbytes  # noqa: S311 - no secret is made of it
        self.calling = Calling(self)
        self.outside = Outside(self)
        self.server = Server(self)
        self.store = Store(plan.now, plan.settings.lease, self.witness)
        self.broken: BaseException | None = None
        """What the test itself did wrong."""
        # The first three choices say what kind of schedule it is.
        keeps, adopts, fewer = choices.rare(2), choices.rare(2), choices.one_of(plan.workers)
        self.settings = attrs.evolve(plan.settings, cache=0) if keeps else plan.settings
        self.adopts = 0 if adopts else 10
        self.root = self.store.start(plan.start())
        self.workers = [Worker(self, number) for number in range(plan.workers - fewer)]
        self.workers[0].start()

    # the course of events

    def run(self) -> None:
        """Until all runs have ended. Raises Violated, or the AssertionError of a test."""
        quiet = events = 0
        choices = self.choices
        look = self._look()
        while not look.over:
            found = self._events(look)
            if not found:
                raise Violated("I2", f"{self._unended()} waits, and nothing will wake it")
            choice = choices.one_of(len(found), 0 if choices.quiet else mishaps.count(self))
            if choice < 0:
                mishaps.happen(self, -1 - choice)
            else:
                event, given = found[choice]
                event(*given)
            if self.broken is not None:
                raise self.broken
            events += 1
            quiet += choices.quiet
            if quiet > DRAIN or events > MAX_EVENTS:
                raise Violated("I2", f"{self._unended()} has not ended {DRAIN} events after the last thing went wrong")
            look = self._look()

    def close(self) -> None:
        """Let go of the handlers."""
        for worker in self.workers:
            if worker.alive:
                worker.die()

    def tell(self, who: Worker | str, what: str) -> None:
        """A line of the story."""
        if self.story is not None:
            since = (self.store.now - self.plan.now).total_seconds()
            self.story.append(f"{since:9.3f} s  {who if isinstance(who, str) else who.name}: {what}")

    def _unended(self) -> str:
        rows = [row for row in self.store.runs.values() if row.status not in FINAL]
        return ", ".join(f"{row.new.name} ({row.status.name.lower()})" for row in rows)

    def _look(self) -> Look:
        look = Look()
        now, scripted = self.store.now, self.calling.children
        for row in self.store.runs.values():
            status = row.status
            if row.cascade or row.unwanted:
                look.cascade = True
                look.over = False
            if status >= Status.PARKED:
                continue
            look.over = False
            if status == Status.RUNNING:
                if row.request or row.mail > row.seen:
                    look.news.append(row)
            elif status == Status.READY:
                found = look.scripted if row.run_id in scripted else look.ready
                (look.suspects if row.recoveries >= SUSPECT else found).append(row)
            elif status == Status.PAUSED:
                look.paused = True
            elif row.due_at is not None:
                if row.due_at <= now:
                    look.due = True
                elif look.next_at is None or row.due_at < look.next_at:
                    look.next_at = row.due_at
        return look

    def _events(self, look: Look) -> list[Event]:
        """All that could come next, in the order in which it comes when nothing is chosen."""
        found: list[Event] = []
        self._of_server(found)
        next_at = look.next_at
        now = self.store.now
        for worker in self.workers:
            if worker.up:
                self._of_worker(worker, look, now, found)
                due_at = worker.timers.due_at
                if due_at is not None and due_at > now and (next_at is None or due_at < next_at):
                    next_at = due_at
        self._of_others(look, found)
        up = False
        for worker in self.workers:
            up |= worker.up
            if worker.alive and worker.stalled:
                found.append((self._come_back, (worker,)))
            elif not worker.alive and not (up and self.choices.quiet):
                found.append((self._start, (worker,)))
        next_at = self._next_at(next_at)
        if next_at is not None:
            found.append((self._move_to, (next_at,)))
        return found

    def _of_server(self, found: list[Event]) -> None:
        server = self.server
        for worker in self.workers:
            for request in worker.requests:
                if not request.performed:
                    found.append((server.serve if worker.up else server.serve_unheard, (worker, request)))
                elif worker.up:
                    found.append((server.answer, (worker, request)))
        for request in server.strays:
            found.append((server.stray, (request,)))

    def _of_others(self, look: Look, found: list[Event]) -> None:
        store = self.store
        if look.scripted:
            found.append((self.calling.child_ends, (look.scripted[0],)))
        if look.due:
            found.append((store.promote, ()))
        if look.cascade:
            found.append((clients.cancel_children, (store,)))
        store.events.possible(self, found)
        self.outside.possible(found)
        if store.expired():
            found.append((self._sweep, ()))
            for worker in self.workers:
                session = worker.holder.current if worker.up and not worker.mute else None
                if session is not None and store.leases[session.id].until < store.now:
                    found.append((store.beat, (session,)))
        if look.paused:
            found.append((self._resume, ()))

    def _of_worker(self, worker: Worker, look: Look, now: datetime, found: list[Event]) -> None:
        runner = worker.runner
        for job in worker.executor.jobs:
            found.append((self.calling.call if job.result is None else self.calling.returned, (worker, job)))
        for place in range(len(worker.loop.pauses)):
            found.append((worker.loop.wake, (place,)))
        if worker.stopping and worker.still:
            found.append((self._left, (worker,)))
        elif worker.holder.fenced:
            found.append((self._register, (worker,)))
            return
        due_at = worker.timers.due_at
        if due_at is not None and due_at <= now:
            found.append((worker.loop.run, (worker.timers.fire,)))
        if look.news and not worker.hearing and any(_is_news(worker, row) for row in look.news):
            found.append((self.hear, (worker,)))
        if worker.stopping:
            return
        unsure = worker.claimer.unsure
        if worker.giving_back is not None or worker.claiming or (worker.alone and runner.count()):
            return
        if unsure and not worker.gave_back and not runner.adoption.pending():
            found.append((worker.loop.run, (worker.give_back,)))
        else:
            if look.ready or (unsure and worker.gave_back):
                found.append((self._claim, (worker, look.ready)))
            if look.suspects and not runner.count():
                found.append((self._claim, (worker, look.suspects[:1])))

    def _next_at(self, next_at: datetime | None) -> datetime | None:
        """When time brings something, at the earliest: a due time, a timer, or the end of a lease."""
        now = self.store.now
        beating = [worker.holder.current.id for worker in self.workers if worker.up and not worker.mute]
        for lease in self.store.leases.values():
            if not lease.dead and lease.until >= now and lease.id not in beating:
                over_at = lease.until + _MOMENT
                if next_at is None or over_at < next_at:
                    next_at = over_at
        return next_at

    # workers

    def _claim(self, worker: Worker, rows: list[Row]) -> None:
        worker.gave_back = False
        worker.alone = any(row.recoveries >= SUSPECT for row in rows)
        rows = self.store.in_order(rows)[: len(rows) - self.choices.rare(len(rows))]
        session, have = worker.holder.current, worker.runner.cache.haves()
        worker.claiming = True
        perform = partial(self.store.claim, session, rows, have)
        worker.requests.append(Request("claim", perform, partial(worker.claimed, session), worker.claim_failed))

    def hear(self, worker: Worker) -> None:
        """Requests and letters for what runs there."""
        worker.hearing = True
        perform = partial(self.store.news, worker.holder.current, worker.runner.letters())
        worker.requests.append(Request("look for news", perform, worker.heard, worker.not_heard))

    def _register(self, worker: Worker) -> None:
        worker.mute = False
        worker.claiming = worker.hearing = False
        self.store.excuse(worker.holder.current)
        worker.holder.registered(self.store.register())
        self.tell(worker, "registers under a new session")

    def _left(self, worker: Worker) -> None:
        self.tell(worker, "has stopped")
        self.store.release(worker.holder.current)
        self.store.leave(worker.holder.current)
        worker.requests.clear()
        worker.die()

    def crash(self, worker: Worker) -> None:
        """kill -9: the server may yet come to what was sent."""
        self.tell(worker, "dies")
        self.server.strays += [request for request in worker.requests if not request.performed]
        worker.requests.clear()
        worker.die()

    def stall(self, worker: Worker) -> None:
        """It stands still, and gives no sign of life."""
        self.tell(worker, "stalls")
        worker.stalled = True

    def _come_back(self, worker: Worker) -> None:
        self.tell(worker, "goes on")
        worker.stalled = False

    def _start(self, worker: Worker) -> None:
        new = self.workers[worker.number] = Worker(self, worker.number)
        new.start()
        self.tell(new, "starts")

    # what others do

    def _sweep(self) -> None:
        count = self.store.reap()
        self.tell("a sweep", f"takes {count} run{'s' if count != 1 else ''} from sessions whose lease is over")

    def _resume(self) -> None:
        self.tell("a client", "resumes what is paused")
        clients.resume(self.store)

    def _move_to(self, when: datetime) -> None:
        self.move_by(when - self.store.now)

    def move_by(self, span: timedelta) -> None:
        """Time passes; who lives gives signs of life meanwhile."""
        self.store.now += span
        self.tell("the clock", f"moves by {span.total_seconds():g} s")
        for worker in self.workers:
            if worker.up and not worker.mute:
                self.store.beat(worker.holder.current)


def _is_news(worker: Worker, row: Row) -> bool:
    """Whether a worker does not know the mail, or the request, of a run of its own."""
    run: LiveRun | None = worker.runner.live.get(row.run_id)
    if row.owner != worker.holder.current.id or run is None or run.gone or run.leaving:
        return False
    knows = run.stopping is not None or run.execution.unwinding
    return row.mail > run.mail_read or (row.request != 0 and not knows)
