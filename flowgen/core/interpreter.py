"""The interpreter: one pure object per run that the worker, the testing kit and the debugger all drive.

Theory of operation. A handler is a generator (or coroutine) of commands. `Execution` keeps the tree of its branches;
each branch waits for one leaf (a command without an outcome) or for a composite with branches of its own. There is one
way in for outcomes: an entry of the history is *delivered*. It finds the leaf of its key, its value is decoded and sent
into the branch, and the branch is driven to its next command. A live run delivers what was just committed; a replay
delivers the whole history, entry by entry, in index order. Both are the same code, so both end in the same state:
the order of history, not of the clock, says who wins and which failure comes first.

After the deliveries every leaf that is new, or whose state or time has moved, is *asked*: its meaning
(`flowgen.core.semantics`) writes entries to commit, calls to make, children to start or a time to wait for into the
decision. `settle` turns the result of a call into the entry to commit. An entry for a leaf that does not exist is a
divergence, unless its branch was cancelled or its kind may be skipped.

It does no I/O, reads no clock and starts nothing; `now` and random bytes are passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from flowgen.core import codec, semantics
from flowgen.core.branches import Ended, Leaf, Phase
from flowgen.core.context import Context, RunFacts, StepContext, StepFacts, View, entered
from flowgen.core.decision import Cancelled as CancelledRun
from flowgen.core.decision import (
    Completed,
    Decision,
    Draft,
    Failed,
    Finish,
    Parked,
    Restarted,
    Result,
    Waits,
)
from flowgen.core.definitions import Definition
from flowgen.core.driver import Driver, open_handler
from flowgen.core.entries import Entry, EntryKind, Message, MessageKind, OutcomeKind
from flowgen.core.failures import failure_from
from flowgen.core.functions import ContextKind
from flowgen.core.history import CommandState, History, saved_of, set_aside_value
from flowgen.core.retry import next_wait
from flowgen.core.semantics import steps
from flowgen.errors import CodecError, Divergence, Failure, OutcomeError, StepFailed

__all__ = ["Execution"]

_CANCELLATION_KEY = ""


class Execution:
    """One run's handler over its history. Not thread-safe; one owner at a time drives it."""

    def __init__(
        self,
        definition: Definition[..., Any, Any],
        facts: RunFacts,
        input: str,
        history: History,
        *,
        entropy: Callable[[int], bytes],
        deadline: datetime | None = None,
    ) -> None:
        """`facts.input` and `facts.config` are filled from `input` and the definition."""
        self.definition = definition
        self.facts = facts
        self.deadline = deadline
        self.history = history
        self.finish: Finish | None = None
        self.view = View(saved=history.saved, next_sequence=history.next_index, replaying=bool(history.ordered))
        kind = StepContext if definition.function.context is ContextKind.STEP and definition.is_handler else Context
        self.context: Context[Any] = kind(facts, self.view)
        self._input = input
        self._entropy = entropy
        self._driver = Driver(
            self.view,
            determinism=definition.options.determinism,
            strict=history.base == 0,
            prologue=history.prologue or None,
            kept=history.kept,
        )
        self._states: dict[str, CommandState] = {}
        self._mailbox: dict[str, list[Message]] = {}
        self._orders: list[Message] = []
        self._timed: dict[str, Leaf] = {}
        self._listening: dict[str, Leaf] = {}
        self._next_due: datetime | None = None
        self._cancel_asked = False
        self._begun = False
        self._delivering = 0

    # driving

    def advance(self, now: datetime, delivered: Sequence[Entry] = ()) -> Decision:
        """Take in what was committed, go on as far as is known, and say what is needed next.

        Args:
            now: the database's time, never ahead of it.
            delivered: entries that are durable now, in index order.
        """
        draft = Draft()
        with entered(self.context):
            try:
                if not self._begun:
                    self._begin(now)
                for entry in delivered:
                    self._deliver(entry, replayed=False)
                if self.finish is None:
                    self._ask(now, draft)
            except Divergence as divergence:
                self._diverged(divergence, draft)
            except CodecError as error:
                self.finish = Parked("undecodable", str(error))
        self._end(now, draft)
        draft.warnings.extend(self._driver.take_warnings())
        for leaf in self._driver.take_cut():
            self._cut(leaf, draft)
        hang_up = self._hang_up() if self.finish is None and not draft.entries and not draft.calls else None
        return draft.decide(hang_up, self.finish)

    def settle(self, key: str, result: Result) -> Entry | None:
        """The entry to commit for a call that ended; None when nobody wants it any more."""
        leaf = self._driver.leaves.get(key)
        if leaf is None or leaf.phase is not Phase.CALLING or self.finish is not None:
            return None
        leaf.phase = Phase.COMMITTING
        return steps.settle(leaf, result, self._states.get(key) or CommandState(), self.facts.uuid)

    def retract(self, key: str) -> None:
        """The entry that `settle` made of a call was not committed, and will not be: the call goes on."""
        leaf = self._driver.leaves.get(key)
        if leaf is not None and leaf.phase is Phase.COMMITTING:
            leaf.phase = Phase.CALLING

    def post(self, messages: Iterable[Message]) -> None:
        """Take in messages of the inbox; they stay there until a decision consumes them."""
        for message in messages:
            if message.kind in (MessageKind.RETRY, MessageKind.ACCEPT):
                self._orders.append(message)
                continue
            self._mailbox.setdefault(message.key, []).append(message)
            leaf = self._listening.get(message.key)
            if leaf is not None and leaf.phase is Phase.WAITING:
                self._driver.fresh.append(leaf)

    def cancel(self, reason: str | None = None) -> Decision:
        """The run is to be cancelled: commit the decision's entry, then deliver it; `Cancelled` is thrown in there."""
        if self._cancel_asked or self.finish is not None:
            return Decision()
        self._cancel_asked = True
        value = codec.encode({"reason": reason})
        entry = Entry(-1, EntryKind.OUTCOME, _CANCELLATION_KEY, None, OutcomeKind.CANCELLATION, value=value)
        return Decision(entries=(entry,))

    def close(self) -> None:
        """Drop the handler. Errors of a handler that refuses to be closed are contained."""
        self._driver.close()

    @property
    def due_at(self) -> datetime | None:
        """The earliest time that a command waits for."""
        return self._next_due

    @property
    def busy(self) -> bool:
        """Whether a call or a commit is under way."""
        return any(leaf.phase in (Phase.CALLING, Phase.COMMITTING) for leaf in self._driver.leaves.values())

    def calling(self, key: str) -> bool:
        """Whether the result of this call is still wanted."""
        leaf = self._driver.leaves.get(key)
        return leaf is not None and leaf.phase is Phase.CALLING

    def step_context(self, facts: StepFacts) -> StepContext[Any]:
        """The context of a step's function."""
        return StepContext(self.facts, self.view, facts)

    def waiting_for(self) -> list[tuple[str, str, datetime | None]]:
        """Key, kind and due time of every command without an outcome, for `why` and the debugger."""
        return [(leaf.key, leaf.command.kind, leaf.due_at) for leaf in self._driver.leaves.values()]

    # deliveries

    def _begin(self, now: datetime) -> None:
        self._begun = True
        self.view.now = now if self.view.now is None else self.view.now
        try:
            self.facts.input, flow = open_handler(self.definition, self.context, self._input)
        except CodecError as error:
            self.finish = Failed(failure_from(error))
            return
        self.facts.config = self.definition.options.config
        cancelled_first = bool(self.history.ordered) and self.history.ordered[0].key == _CANCELLATION_KEY
        self._driver.begin(flow, drive=not cancelled_first)
        last = len(self.history.ordered) - 1
        for place, entry in enumerate(self.history.ordered):
            self.view.replaying = place < last
            self._delivering = place
            self._deliver(entry, replayed=True)
        self.view.replaying = False
        self.view.next_sequence = max(self.view.next_sequence, self.history.next_index)
        if self.finish is None:
            self.history.ordered = []

    def _deliver(self, entry: Entry, *, replayed: bool) -> None:
        if self.finish is not None:
            return
        if entry.recorded_at is not None:
            self.view.now = entry.recorded_at
        if entry.index >= self.view.next_sequence:
            self.view.next_sequence = entry.index + 1
        if entry.kind == EntryKind.OUTCOME:
            self._states.pop(entry.key, None)
            if entry.key == _CANCELLATION_KEY:
                self._cancel_asked = True
                self._driver.cancel(codec.decode(entry.value or "{}").get("reason"))
            else:
                self._driver.outcome(entry)
        elif entry.kind == EntryKind.CHECKPOINT:
            self.view.saved = saved_of(entry)
            self._states.pop(entry.key, None)
            self._driver.close_segment(entry)
        elif entry.kind != EntryKind.SET_ASIDE:
            self._states.setdefault(entry.key, CommandState()).note(entry, replayed)
            leaf = self._driver.leaves.get(entry.key)
            if leaf is not None and leaf.phase is not Phase.NEW:
                leaf.phase = Phase.NEW
                self._driver.fresh.append(leaf)

    # questions

    def _ask(self, now: datetime, draft: Draft) -> None:
        driver = self._driver
        if self._next_due is not None and now >= self._next_due:
            driver.fresh.extend(leaf for leaf in self._timed.values() if leaf.due_at is not None and leaf.due_at <= now)
        while driver.fresh:
            leaf = driver.fresh.popleft()
            if driver.leaves.get(leaf.key) is not leaf or leaf.phase in (Phase.COMMITTING, Phase.CALLING):
                continue
            self._forget_wait(leaf)
            asking = semantics.Asking(
                now,
                draft,
                self._states.get(leaf.key) or _UNKNOWN,
                self.facts.schema,
                self._mailbox,
                self._entropy,
                driver.prologue,
            )
            semantics.ask(leaf, asking)
            if leaf.phase is Phase.WAITING:
                self._note_wait(leaf)
        self._next_due = min((leaf.due_at for leaf in self._timed.values() if leaf.due_at), default=None)

    def _note_wait(self, leaf: Leaf) -> None:
        if leaf.due_at is not None:
            self._timed[leaf.key] = leaf
        if leaf.message_key is not None:
            self._listening[leaf.message_key] = leaf

    def _forget_wait(self, leaf: Leaf) -> None:
        self._timed.pop(leaf.key, None)
        if leaf.message_key is not None and self._listening.get(leaf.message_key) is leaf:
            del self._listening[leaf.message_key]

    def _cut(self, leaf: Leaf, draft: Draft) -> None:
        """A leaf whose branch was cancelled: nobody wants its outcome."""
        self._forget_wait(leaf)
        if leaf.phase is Phase.CALLING:
            draft.aborts.append(leaf.key)
        state = self._states.pop(leaf.key, None)
        if state is not None and state.child is not None:
            draft.cancel_children.append(state.child)

    def _hang_up(self) -> Waits | None:
        driver = self._driver
        if not driver.leaves or any(leaf.phase is not Phase.WAITING for leaf in driver.leaves.values()):
            return None
        listening = len(self._listening)
        joined = listening if driver.joins_all and listening == len(driver.leaves) else min(listening, 1)
        return Waits(self._next_due, joined)

    # ends

    def _end(self, now: datetime, draft: Draft) -> None:
        """Make of the handler's end, the deadline and the operator's orders what the run comes to."""
        end = self._driver.root_end
        if self.finish is None and end is not None:
            self.finish = self._finished(end)
        if self.finish is None and self.deadline is not None and now >= self.deadline:
            message = f"{self.definition.name} was not finished at its deadline {self.deadline.isoformat()}"
            self._driver.cut_all()
            self.finish = Failed(Failure("RunTimedOut", message))
        if self.finish is not None and self._orders:
            self._obey(draft)
        elif isinstance(self.finish, Failed) and self.finish.retry_after is not None:
            self._set_aside(draft, self._driver.last_failed, "the run is tried again", "retry policy")

    def _finished(self, end: Ended) -> Finish:
        if self._cancel_asked:
            return CancelledRun(self._driver.cancel_reason)
        if end.error is None:
            try:
                return Completed(codec.encode(end.value, self.definition.function.result_type, what="the result"))
            except CodecError as error:
                return Failed(failure_from(error))
        failure = failure_from(end.error)
        if isinstance(end.error, OutcomeError):
            cause = end.error.failure
            if isinstance(end.error, StepFailed) and not self.definition.is_handler:
                failure = cause
            else:
                failure = Failure(failure.type, failure.message, failure.traceback, {"cause": _summary(cause)})
        if not self.definition.is_handler:
            return Failed(failure)
        attempt = self.facts.attempt
        wait = next_wait(self.definition.options.retry, end.error, attempt, f"{self.facts.uuid}")
        return Failed(failure, wait)

    def _obey(self, draft: Draft) -> None:
        order = self._orders.pop(0)
        draft.consumed.append(order.id)
        said = codec.decode(order.payload) or {}
        if order.kind == MessageKind.RETRY and isinstance(self.finish, Failed | Parked):
            who = str(said.get("who") or "client")
            below = self.view.next_sequence if said.get("from_scratch") else 0
            self._set_aside(draft, [] if below else self._driver.last_failed, "retry", who, below=below)
            self.finish = Restarted()
        elif order.kind == MessageKind.ACCEPT and isinstance(self.finish, Parked):
            why = str(said.get("reason") or "accepted")
            self._set_aside(draft, self._undelivered(), why, str(said.get("by") or "operator"))
            self.finish = Restarted()

    def _undelivered(self) -> list[int]:
        return [entry.index for entry in self.history.ordered[self._delivering :]]

    def _set_aside(self, draft: Draft, indexes: Sequence[int], why: str, who: str, *, below: int = 0) -> None:
        if indexes or below:
            value = set_aside_value(indexes, why, who, below=below)
            draft.entries.append(Entry(-1, EntryKind.SET_ASIDE, "", value=value))

    def _diverged(self, divergence: Divergence, draft: Draft) -> None:
        self._driver.cut_all()
        self.finish = Parked("diverged", str(divergence))


_UNKNOWN = CommandState()


def _summary(failure: Failure) -> dict[str, Any]:
    return {"type": failure.type, "message": failure.message}
