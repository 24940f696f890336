"""Carries out decisions: owns the live runs, gives their calls to the executor and their parts to the committer.

The way that a run takes through it is told in `flowgen.worker`. Everything here runs on the event loop's thread; no
await stands between a delivery and its decision. The invariant: an outcome is delivered only after its commit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from uuid import UUID

import attrs

from flowgen.core.commands import Transaction
from flowgen.core.decision import Decision, Failed, Finish, FunctionCall, Parked, Result
from flowgen.core.entries import Entry, Message
from flowgen.core.sealing import Seal
from flowgen.core.states import Request, Status
from flowgen.failpoints import ARMED, evicting, failpoint
from flowgen.postgres.effects import Unwanted
from flowgen.postgres.rows import ClaimedRun, Owned, RunAction
from flowgen.worker import saying
from flowgen.worker.adoption import Adoption
from flowgen.worker.ahead import Ahead
from flowgen.worker.cache import Cache
from flowgen.worker.executor import RunningCall
from flowgen.worker.live import LiveRun, Part
from flowgen.worker.making import Maker
from flowgen.worker.ports import Agents
from flowgen.worker.recording import Recorder
from flowgen.worker.updates import ending, hanging_up, is_poison, poison, update

__all__ = ["Runner"]

AT_ONCE = 200
"""Runs that are taken before the event loop looks whether something has arrived."""


class Runner:
    """The live runs of one session, and a bounded cache of executions that wait."""

    def __init__(self, agents: Agents, maker: Maker, adoption: Adoption) -> None:
        self.agents = agents
        self.maker = maker
        self.adoption = adoption
        self.live: dict[UUID, LiveRun] = {}
        self._letters: dict[UUID, int] = {}
        self._accepted: deque[tuple[ClaimedRun, LiveRun | None]] = deque()
        self._arrived = asyncio.Event()
        self.cache = Cache(agents.settings.cache)
        self.draining = False
        self._evicts = evicting()
        self._recorder = Recorder(agents, maker)
        self._seal = Seal.of(agents.settings)
        self._reports = saying.Reports(agents)
        self._ahead = Ahead(agents, self._seal)

    # claimed runs

    def count(self) -> int:
        """Runs that this session owns, as far as is known here."""
        return len(self.live) + len(self._accepted)

    def letters(self) -> Mapping[UUID, int]:
        """The number of the last message that each run which is live here was told of, as far as it was of any."""
        return dict(self._letters)

    def holds(self, run_id: UUID, claim: int) -> bool:
        """Whether this claim of the run is here; an older one may be on its way out, and the newer not be heard of."""
        live = self.live.get(run_id)
        if live is not None and live.claimed.claim == claim:
            return True
        return any((claimed.run_id, claimed.claim) == (run_id, claim) for claimed, _ in self._accepted)

    def accept(self, claimed: Sequence[tuple[ClaimedRun, LiveRun | None]]) -> None:
        """Claimed runs: a few are taken at once, many some at a time, as the event loop comes to them."""
        if not self._accepted and len(claimed) <= AT_ONCE:
            self.take(claimed)
            return
        self._accepted.extend(claimed)
        self._arrived.set()

    async def serve(self) -> None:
        """Take what was accepted until cancelled; between some and the next the loop sends and receives."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._accepted:
                self.take([self._accepted.popleft() for _ in range(min(AT_ONCE, len(self._accepted)))])
                await asyncio.sleep(0)

    def take(self, claimed: Sequence[tuple[ClaimedRun, LiveRun | None]]) -> None:
        """Go on with runs that were just claimed: with what the cache gave, or from their whole history."""
        with self.agents.watchdog.many():
            for each, revived in claimed:
                self._take(each, revived)

    def _take(self, claimed: ClaimedRun, revived: LiveRun | None) -> None:
        run, unreadable = (revived, claimed.unreadable) if revived else self.maker.read(claimed)
        self.live[run.run_id] = run
        self._letters.pop(run.run_id, None)
        if claimed.inbox and unreadable is None:
            self._heard(run, claimed.inbox)
            claimed.inbox = ()
        if unreadable is not None:
            self._finish(run, Parked("undecodable", unreadable))
        elif self.draining:
            self._stop(run, RunAction.RELEASE)
        elif claimed.recoveries and is_poison(claimed, self.agents.settings):
            self._finish(run, Failed(poison(claimed)))
        elif claimed.request == Request.PAUSE:
            self._stop(run, RunAction.PAUSE)
        elif claimed.request == Request.CANCEL:
            self._cancel(run, claimed.reason)
        else:
            self._go(run)

    # going on

    def _go(self, run: LiveRun, delivered: Sequence[Entry] = (), now: datetime | None = None) -> None:
        if run.gone or run.leaving:
            return
        self._carry_out(run, self.agents.watchdog.drive(run, delivered, now or self.agents.clock.now()))

    def _carry_out(self, run: LiveRun, decision: Decision) -> None:
        if decision.warnings:
            run.say(decision.warnings, self.agents.log)
        for key in decision.aborts:
            running = run.calls.pop(key, None)
            if running is not None:
                late = run.deadline is not None and not self.agents.clock.until(run.deadline)
                self.agents.executor.abort(running, "deadline" if late else "its branch was cancelled")
        if not run.decisions and not decision.cancel_children:
            self._commit(run, decision)
            return
        run.decisions.append(decision)
        if len(run.decisions) == 1:
            self._next_decision(run)

    def _next_decision(self, run: LiveRun) -> None:
        """Carry out what stands in line; children that nobody wants are cancelled before the commit, or noted in it."""
        while run.decisions:
            children = run.decisions[0].cancel_children
            if children:
                self.agents.cancel_runs(run.run_id, children, lambda left: self._children_cancelled(run, left))
                return
            self._commit(run, run.decisions.pop(0))

    def _children_cancelled(self, run: LiveRun, left: bool) -> None:
        if run.decisions:
            decision = run.decisions.pop(0)
            if left:
                run.effects += map(Unwanted, decision.cancel_children)
            self._commit(run, decision)
            self._next_decision(run)

    def _commit(self, run: LiveRun, decision: Decision) -> None:
        if run.gone:
            return
        if run.stopping is not None and decision.finish is None:
            self._stop(run, run.stopping)
            return
        if decision.entries or decision.consumed or decision.quits or decision.listens:
            self._recorder.record(run, decision)
        if decision.finish is not None:
            self._finish(run, decision.finish)
            return
        for call in decision.calls:
            self._call(run, call)
        # A decision that waited in line may not know what the ones behind it know.
        if decision.hang_up is not None and not (run.sending or len(run.entries) > run.told or run.decisions):
            run.update = hanging_up(run, decision.hang_up)
        if run.execution.deadline is not None or run.execution.waiting.leaves:
            self._arm(run)
        if (run.entries or run.update is not None or run.said is not None) and (not run.told or run.waits):
            self.agents.committer.mark(run)

    def _finish(self, run: LiveRun, finish: Finish) -> None:
        """The last part of a run: what it came to."""
        run.update = ending(run, finish)
        for running in run.calls.values():
            self.agents.executor.abort(running, "the run has ended")
        run.calls.clear()
        self.agents.committer.mark(run)

    # calls

    def _call(self, run: LiveRun, call: FunctionCall) -> None:
        if run.stopping is not None:
            return
        if call.not_before is not None and self.agents.clock.until(call.not_before) > 0:
            later = attrs.evolve(call, not_before=None)
            self.agents.timers.at(call.not_before, lambda: self._call_later(run, later))
            return
        running = RunningCall(call, run, self._settled, self._reports.heard)
        run.calls[call.key] = running
        if isinstance(call.command, Transaction):
            self.agents.transactor.submit(run, running)
        else:
            self.agents.executor.submit(running)

    def _call_later(self, run: LiveRun, call: FunctionCall) -> None:
        if not run.gone and run.execution.calling(call.key):
            self._call(run, call)

    def _settled(self, running: RunningCall, result: Result | None) -> None:
        run = running.run
        run.calls.pop(running.call.key, None)
        if running.heard is not None:
            saying.ended(run, running)
        if run.gone:
            return
        if result is not None:
            entry = run.execution.settle(running.call.key, result)
            if entry is not None and run.is_ahead and self._ahead.take(run, running.call.command, entry):
                self._go(run, (entry,))
            elif entry is not None:
                run.entries.append(entry)
                self.agents.committer.mark(run)
        if run.stopping is not None:
            self._stop_if_still(run)

    # commits

    def sends(self, part: Part) -> None:
        """The part is sent next: as many of its children as there is room for now may be ours from their start."""
        if not self.draining:
            self.adoption.mark(part.run, part.children)

    def committed(
        self, parts: Sequence[tuple[Part, int | None]], now: datetime, adopted: AbstractSet[UUID] = frozenset()
    ) -> None:
        """These parts are durable since `now`: deliver their entries.

        With each stands the status of its run, when its row was updated. `adopted` are children that are ours.
        """
        ours: list[ClaimedRun] = []
        with self.agents.watchdog.many():
            for part, landed in parts:
                if part.children:
                    ours += self.adoption.landed(part, adopted, now)
                self._committed(part, landed, now)
        if ours:
            self.accept([(claimed, None) for claimed in ours])

    def _committed(self, part: Part, landed: int | None, now: datetime) -> None:
        run = part.run
        run.sending, run.skips = False, 0
        if run.said is not None:
            saying.landed(run.said, part.update)
        if part.children and not all(child.owned for child in part.children):
            self.agents.poke()
        if part.effects:
            self.agents.announce()
        if run.gone:
            return
        if landed is not None and landed != Status.RUNNING:
            self._left(run, landed, part)
            return
        if run.stopping is not None and not run.calls:
            if ARMED:
                failpoint("checkpoint.release")
            self._stop(run, run.stopping)
        elif self._evicts and run.is_whole_with(part):
            self._stop(run, RunAction.RELEASE)
        else:
            self._go(run, part.entries[part.told :] if part.told else part.entries, now)
        if run.entries or run.update is not None or run.said is not None:
            self.agents.committer.mark(run)

    def _left(self, run: LiveRun, landed: int, part: Part) -> None:
        """The run is not ours any more: it hung up, ended or was released."""
        # It may have been claimed again before this was told: then the newer one is live, and knows more.
        latest = self.live.get(run.run_id) is run
        if latest:
            del self.live[run.run_id]
            self._letters.pop(run.run_id, None)
        run.gone = True
        self.adoption.forget(run)
        assert part.update is not None
        caches = self.agents.settings.cache and not self.draining and not self._evicts
        if part.update.action == RunAction.HANG_UP and latest and caches:
            self.cache.keep(run)
            if part.update.due_at is not None:
                self.agents.wake_at(part.update.due_at)
        elif unsaid := run.execution.close():
            run.say(unsaid, self.agents.log)
        if landed == Status.READY or part.update.notify_parent is not None:
            self.agents.poke()
        if part.update.delay is not None:
            self.agents.wake_at(self.agents.clock.now() + part.update.delay)

    def disowned(self, run: LiveRun) -> None:
        """The run is another session's: somebody took it although the lease still held here."""
        self.agents.log.warning("%s (%s) is owned elsewhere; it is dropped here", run.claimed.name, run.run_id)
        self._let_go(run)

    def unreadable(self, run: LiveRun, error: Exception) -> None:
        """What is stored of the run cannot be read: whoever claims it next parks it."""
        self.agents.log.error("%s (%s) cannot be read: %s", run.claimed.name, run.run_id, error)
        self._let_go(run)

    def _let_go(self, run: LiveRun) -> None:
        self._drop(run)
        self.adoption.forget(run)
        if self.live.get(run.run_id) is run:
            del self.live[run.run_id]
            self._letters.pop(run.run_id, None)

    # news

    def hear(self, news: Sequence[Owned]) -> None:
        """Requests and messages for runs that are running here."""
        for each in news:
            run = self.live.get(each.run_id)
            if run is None or run.gone or run.leaving:
                continue
            run.mail_read = max(run.mail_read, each.mail)
            if each.deadline != run.deadline and saying.may_move(run):
                run.execution.deadline = each.deadline
                self._arm(run)
            fresh = self._heard(run, each.inbox)
            if run.update is not None and run.update.action == RunAction.HANG_UP and not run.sending:
                run.update, fresh = None, True
            if each.request == Request.CANCEL:
                self._cancel(run, each.reason)
            elif each.request == Request.PAUSE:
                self._stop(run, RunAction.PAUSE)
            elif fresh:
                self._go(run)

    def _heard(self, run: LiveRun, inbox: Sequence[Message]) -> bool:
        if inbox:
            self._letters[run.run_id] = inbox[-1].id
        return run.execution.post(inbox if self._seal is None else self._seal.open_messages(inbox))

    def _cancel(self, run: LiveRun, reason: str | None) -> None:
        decision = run.execution.cancel(reason)
        if decision.entries:  # the first time: later there are only calls of the clean-up
            for running in run.calls.values():
                running.signal.abort(f"cancelled: {reason}" if reason else "cancelled")
            self._carry_out(run, decision)
        else:
            self._go(run)

    # stopping

    def stop_all(self) -> None:
        """Release every run: at once when no call of it is in flight, else when its calls have ended."""
        self.draining = True
        for run in list(self.live.values()):
            self._stop(run, RunAction.RELEASE)
        self.cache.drop()

    def release(self, names: AbstractSet[str]) -> None:
        """Release the runs of these definitions, each as soon as no call of it is in flight."""
        for run in [each for each in self.live.values() if each.claimed.name in names and each.stopping is None]:
            self._stop(run, RunAction.RELEASE)

    def abort_all(self, reason: str) -> None:
        """The grace is over: abort what is in flight and release everything."""
        for run in list(self.live.values()):
            for running in run.calls.values():
                self.agents.executor.abort(running, reason)
            run.calls.clear()
            self._stop(run, RunAction.RELEASE)

    def drop_all(self) -> None:
        """The lease is lost: nothing of what is here may be written any more."""
        for run in list(self.live.values()):
            self._drop(run)
        self.live.clear()
        self._letters.clear()
        for _, revived in self._accepted:
            if revived is not None:
                revived.execution.close()
        self._accepted.clear()
        self.adoption.clear()
        self.cache.drop()
        self.agents.timers.clear()

    def _drop(self, run: LiveRun) -> None:
        run.gone = True
        for running in run.calls.values():
            self.agents.executor.abort(running, "the lease was lost")
        run.say(run.execution.close(), self.agents.log)

    def _stop(self, run: LiveRun, action: RunAction) -> None:
        run.stopping = action
        self._stop_if_still(run)

    def _stop_if_still(self, run: LiveRun) -> None:
        if run.stopping is None or run.calls or run.gone or run.sending:
            return
        if run.update is None or run.update.action == RunAction.HANG_UP:
            run.update = update(run, run.stopping)
        self.agents.committer.mark(run)

    # timers

    def _arm(self, run: LiveRun) -> None:
        """Wake a run that stays live (a call is in flight, or a commit) for its own next time."""
        due_at, limit = run.execution.due_at, run.execution.limit
        if limit is not None and (due_at is None or limit < due_at):
            due_at = limit
        if due_at is not None and (run.armed is None or due_at < run.armed) and run.update is None:
            run.armed = due_at
            self.agents.timers.at(due_at, lambda: self._due(run, due_at))

    def _due(self, run: LiveRun, due_at: datetime) -> None:
        if run.armed == due_at:
            run.armed = None
        if not run.gone and not run.sending and run.update is None:
            self._go(run)
