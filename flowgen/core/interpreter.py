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
from datetime import datetime
from typing import Any
from uuid import UUID

import attrs

from flowgen.core import codec, semantics
from flowgen.core.branches import Leaf, Phase
from flowgen.core.commands import Command
from flowgen.core.context import Context, RunFacts, StepContext, StepFacts, View, enter, entered, leave
from flowgen.core.decision import Decision, Failed, Finish, Parked, Result, Waits, more
from flowgen.core.definitions import Definition
from flowgen.core.driver import Driver
from flowgen.core.endings import set_aside
from flowgen.core.entries import Entry, EntryKind, Message, OutcomeKind
from flowgen.core.failures import failure_from
from flowgen.core.finishing import Finishing
from flowgen.core.functions import ContextKind
from flowgen.core.history import CommandState, History, long_history, saved_of
from flowgen.core.inputs import open_handler
from flowgen.core.mailbox import NO_MAIL, Mailbox
from flowgen.core.orders import obey_all
from flowgen.core.semantics import steps
from flowgen.core.semantics.facts import patch_entry
from flowgen.core.sight import seen_from
from flowgen.core.waiting import Waiting
from flowgen.errors import CodecError, Divergence

__all__ = ["LONG_HISTORY", "Execution"]

LONG_HISTORY = 10_000
"""Entries of a run after each of which its author is warned."""

_CANCELLATION_KEY = ""
_UNKNOWN = CommandState()


def _is_cancellation(entry: Entry) -> bool:
    return entry.key == _CANCELLATION_KEY and entry.kind == EntryKind.OUTCOME


class Execution:
    """One run's handler over its history. Not thread-safe; one owner at a time drives it."""

    __slots__ = (
        "__weakref__", "_asking", "_base", "_begun", "_cancel_asked", "_delivering", "_driver", "_finishing", "_input",
        "_mail", "_orphans", "_states", "context", "deadline", "definition", "facts", "finish", "history",
        "problem", "view", "waiting",
    )  # fmt: skip

    def __init__(
        self,
        definition: Definition[..., Any, Any],
        facts: RunFacts,
        input: str,
        history: History,
        *,
        entropy: Callable[[int], bytes],
        deadline: datetime | None = None,
        created_at: datetime | None = None,
        yielded: list[Command[Any]] | None = None,
    ) -> None:
        """`facts.input`, `facts.config` and `facts.definition` are filled from `input` and the definition.

        `created_at`, the run's, is `ctx.now` until the first outcome; without it a replay may see another time there.
        What flows yield is appended to `yielded`, unless it is a replay's.
        """
        self.definition = definition
        self.facts = facts
        self.deadline = deadline
        self.history = history
        self._base = history.base
        self.finish: Finish | None = None
        self.problem: Divergence | CodecError | None = None
        """Why the run is parked."""
        self.view = View(now=created_at, next_sequence=1, saved=history.saved, replaying=bool(history.ordered))
        kind = StepContext if definition.function.context is ContextKind.STEP and definition.is_handler else Context
        self.context: Context[Any] = kind(facts, self.view)
        self._input = input
        self._mail = NO_MAIL
        self._asking = semantics.Asking(facts, NO_MAIL, entropy)
        self._driver = Driver(self.view, history, facts, determinism=definition.options.determinism, yielded=yielded)
        self._states: dict[str, CommandState] = {}
        self._orphans: list[UUID] = []
        self.waiting = Waiting()
        """The commands that wait for a time or a message. Read only."""
        # Recorded by an earlier owner: it is delivered with the rest of the history, and not asked for again.
        self._cancel_asked = bool(history.ordered) and any(map(_is_cancellation, history.ordered))
        self._begun = False
        self._finishing = Finishing(definition, facts, self._driver)
        self._delivering = -1

    # driving

    def advance(self, now: datetime, delivered: Sequence[Entry] = ()) -> Decision:
        """Take in what was committed, go on as far as is known, and say what is needed next.

        `now` is the database's time, never ahead of it; `delivered` are entries that are durable now, in index order.
        """
        decision = Decision()
        driver = self._driver
        token = enter(self.context)
        try:
            if not self._begun:
                self._begin(now)
            for entry in delivered:
                self._deliver(entry, replayed=False)
            over = driver.root_end is not None or (self.deadline is not None and now >= self.deadline)
            if self.finish is None and not (over and self._finishing.close(now, self.deadline, decision)):
                self._ask(now, decision)
                if decision.finish is not None:
                    self.finish = decision.finish
                    driver.cut_all()
        except Divergence as divergence:
            self._park("diverged", divergence)
        except CodecError as error:
            self._park("undecodable", error)
        finally:
            leave(token)
        if driver.root_end is not None or self.deadline is not None or self.finish is not None or self._mail.orders:
            self._end(now, decision)
        if self._mail is not NO_MAIL and self._mail.consumed:
            decision.consumed = [*decision.consumed, *self._mail.hand_over()]
        if driver.warnings:
            decision.warnings = driver.warnings.copy()
            driver.warnings.clear()
        if self._orphans:
            decision.cancel_children = [*decision.cancel_children, *self._orphans]
            self._orphans.clear()
        if driver.cut:
            cut, driver.cut = driver.cut, []
            for leaf in cut:
                self._cut(leaf, decision)
        decision.finish = self.finish
        if self.finish is None and not decision.entries and not decision.calls:
            decision.hang_up = self._hang_up()
        return decision

    def settle(self, key: str, result: Result) -> Entry | None:
        """The entry to commit for a call that ended; None when nobody wants it any more."""
        leaf = self._driver.leaves.get(key)
        if leaf is None or leaf.phase is not Phase.CALLING or self.finish is not None:
            return None
        leaf.phase = Phase.COMMITTING
        state = self._states.get(key, _UNKNOWN) if self._states else _UNKNOWN
        entry = steps.settle(leaf, result, state, self.facts)
        if entry.value is not None and len(entry.value) > codec.SIZE_WARNING:
            self._driver.warnings.append(codec.size_warning(entry.value, f"the result of {key}"))
        return entry

    def retract(self, key: str) -> None:
        """The entry that `settle` made of a call was not committed, and will not be: the call goes on."""
        leaf = self._driver.leaves.get(key)
        if leaf is None:
            self._driver.arrived(Entry(-1, EntryKind.ATTEMPT, key))
        elif leaf.phase is Phase.COMMITTING:
            leaf.phase = Phase.CALLING

    def post(self, messages: Iterable[Message]) -> bool:
        """Take in messages of the inbox, each once; they stay there until a decision consumes them.

        Whether there was a new one.
        """
        if self._mail is NO_MAIL:
            self._mail = self._asking.mail = Mailbox()
        addresses = self._mail.post(messages)
        for address in addresses:
            self._driver.fresh.extend(self.waiting.listening_to(address))
        return bool(addresses)

    def cancel(self, reason: str | None = None) -> Decision:
        """The run is to be cancelled: commit the decision's entry, then deliver it; `Cancelled` is thrown in there."""
        if self.unwinding or self.finish is not None:
            return Decision()
        self._cancel_asked = True
        value = codec.encode({"reason": reason})
        entry = Entry(-1, EntryKind.OUTCOME, _CANCELLATION_KEY, None, OutcomeKind.CANCELLATION, value=value)
        decision = Decision()
        decision.entries.append(entry)
        return decision

    def close(self) -> Sequence[str]:
        """Drop the handler, and say the warnings that no decision has said.

        Errors of a handler that refuses to be closed are contained.
        """
        if self._driver.root_end is None or self._finishing.closed:
            with entered(self.context):
                self._driver.close()
        self._driver.untie()
        unsaid = self._driver.warnings.copy()
        self._driver.warnings.clear()
        return unsaid

    @property
    def unwinding(self) -> bool:
        """Whether a cancellation changes nothing: one is in the history, or on its way there, or the run's end is."""
        return self._cancel_asked or self._finishing.closed

    @property
    def undoing(self) -> bool:
        """Whether something is being undone, which no deadline ends."""
        return self._finishing.undoing

    @property
    def limit(self) -> datetime | None:
        """The deadline, as long as it may end the run."""
        return self._finishing.limit(self.deadline)

    @property
    def due_at(self) -> datetime | None:
        """The earliest time that a command waits for."""
        return self.waiting.due_at

    @property
    def busy(self) -> bool:
        """Whether a call or a commit is under way."""
        return len(self._driver.leaves) > len(self.waiting.leaves)

    @property
    def base(self) -> int:
        """Index of the checkpoint that opened the segment; 0 when there is none."""
        return self._base

    @property
    def prologue(self) -> int | None:
        """Entries below it are the prologue; None when the handler has not read its checkpoint."""
        return self._driver.prologue

    @property
    def error(self) -> BaseException | None:
        """What the handler raised in the end."""
        end = self._driver.root_end
        return None if end is None else end.error

    def calling(self, key: str) -> bool:
        """Whether the result of this call is still wanted."""
        leaf = self._driver.leaves.get(key)
        return leaf is not None and leaf.phase is Phase.CALLING

    def leaf(self, key: str) -> Leaf | None:
        """The command of this key, while it has no outcome: another one may have its key later. Read only."""
        return self._driver.leaves.get(key)

    def step_context(self, facts: StepFacts) -> StepContext[Any]:
        """The context of a step's function."""
        leaf = self._driver.leaves.get(facts.key)
        if leaf is not None and (results := seen_from(leaf.branch, self.view.results)) is not None:
            facts = attrs.evolve(facts, results=results)
        return StepContext(self.facts, self.view, facts)

    def outstanding(self) -> list[Leaf]:
        """Every command without an outcome, in the order of their yields. Read only."""
        return list(self._driver.leaves.values())

    def waiting_for(self) -> list[tuple[str, str, datetime | None]]:
        """Key, kind and due time of every command without an outcome, for `why` and the debugger."""
        return [(leaf.key, leaf.command.kind, leaf.due_at) for leaf in self._driver.leaves.values()]

    # deliveries

    def _begin(self, now: datetime) -> None:
        self._begun = True
        self.facts.config, self.facts.definition = self.definition.options.config, self.definition
        if self.view.now is None:
            self.view.now = now
        try:
            self.facts.input, flow = open_handler(self.definition, self.context, self._input)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.finish = Failed(failure_from(error))
            return
        self._driver.begin(flow)
        last = len(self.history.ordered) - 1
        for place, entry in enumerate(self.history.ordered):
            self.view.replaying = place < last
            self._delivering = place
            self._deliver(entry, replayed=True)
        self.view.replaying = False
        self.view.next_sequence = max(self.view.next_sequence, self.history.next_index)
        self.history.ordered = []

    def _deliver(self, entry: Entry, *, replayed: bool) -> None:
        if self.finish is not None:
            return
        if (at := (entry.due_at if entry.kind == EntryKind.OUTCOME else None) or entry.recorded_at) is not None:
            self.view.now = at  # an outcome that is due at a time was told of then, before it was recorded
        if entry.index >= self.view.next_sequence:
            self.view.next_sequence = entry.index + 1
        if not replayed and (entry.index - self._base) % LONG_HISTORY == 0:
            self._driver.warnings.append(long_history(entry.index - self._base))
        if self._asking.deadlines and self._asking.moves_deadline(entry):
            self.deadline = entry.due_at
        if entry.kind == EntryKind.OUTCOME:
            if entry.key == _CANCELLATION_KEY:
                self._cancel_asked = True
                self._driver.cancel(codec.decode(entry.value or "{}").get("reason"))
            else:
                before = self._states.pop(entry.key, _UNKNOWN).indexes if self._states else ()
                if self._mail.signals:
                    free = self._mail.told(entry, lost=entry.key in self._driver.recorded.dead)
                    self._driver.fresh.extend(self.waiting.listening_to(free) if free is not None else ())
                self._driver.outcome(entry, before)
        elif entry.kind == EntryKind.CHECKPOINT:
            self.view.saved, self._base = saved_of(entry), entry.index
            self._states.clear()
            self._driver.close_segment(entry)
        elif entry.kind == EntryKind.ENDING:
            self._finishing.deliver(entry)
        elif entry.kind != EntryKind.SET_ASIDE:
            self._note(entry, replayed)

    def _note(self, entry: Entry, replayed: bool) -> None:
        driver = self._driver
        leaf = driver.noted(entry)
        if leaf is None:
            if entry.kind == EntryKind.CHILD:
                if entry.key in driver.recorded.dead:
                    self._orphans.append(UUID(codec.decode(entry.value or '""')))
                else:
                    driver.recorded.unasked_child(entry, driver.leaves.values(), ended=driver.root_end is not None)
            return
        self._states.setdefault(entry.key, CommandState()).note(entry, replayed)
        if leaf.phase is not Phase.NEW:
            self.waiting.forget(leaf)
            leaf.phase = Phase.NEW
            self._driver.fresh.append(leaf)

    # questions

    def _ask(self, now: datetime, decision: Decision) -> None:
        driver, waiting = self._driver, self.waiting
        if waiting.leaves:
            driver.fresh.extend(waiting.due(now))
        if not driver.fresh:
            return
        if self._cancel_asked and not (driver.cancelled or self._finishing.closed):
            # The cancellation is on its way: what is asked now would be cut, and a checkpoint would close it in.
            return
        asking, leaves, states = self._asking, driver.leaves, self._states
        asking.now, asking.decision, asking.prologue = now, decision, driver.prologue
        asking.answers = driver.changes.answers
        fresh, driver.fresh = driver.fresh, []
        for leaf in fresh:
            if leaves.get(leaf.key) is not leaf or leaf.phase is Phase.COMMITTING or leaf.phase is Phase.CALLING:
                continue
            if leaf.phase is Phase.WAITING:
                waiting.forget(leaf)
            asking.state = states.get(leaf.key, _UNKNOWN) if states else _UNKNOWN
            semantics.ask(leaf, asking)
            if leaf.phase is Phase.WAITING:
                waiting.note(leaf)
            elif leaf.text is not None and len(leaf.text) > codec.SIZE_WARNING:
                self._driver.warnings.append(codec.size_warning(leaf.text, f"the data of {leaf.key}"))

    def _cut(self, leaf: Leaf, decision: Decision) -> None:
        """A leaf whose branch was cancelled: nobody wants its outcome."""
        self.waiting.forget(leaf)
        if self.finish is None and self._driver.changes.is_new(leaf):
            decision.entries.insert(0, patch_entry(leaf, self._driver.changes.answers))
        if leaf.phase is Phase.CALLING:
            decision.aborts = more(decision.aborts, leaf.key)
        if leaf.key in self._driver.leaves or leaf.key in self._driver.ledger.awaited:
            return
        state = self._states.pop(leaf.key, None)
        if isinstance(self.finish, Parked):
            return  # it is taken up again, and then waits for its children and events
        if state is not None and state.child is not None:
            decision.cancel_children = more(decision.cancel_children, UUID(state.child))
        if leaf.command.listens and (state is not None or leaf.phase is not Phase.NEW):
            decision.quits = more(decision.quits, leaf.key)

    def _hang_up(self) -> Waits | None:
        idle = self._driver.leaves and not self.busy
        return Waits(self.waiting.due_at, self.waiting.messages(all_of=self._driver.joins_all)) if idle else None

    # ends

    def _end(self, now: datetime, decision: Decision) -> None:
        """Make of the handler's end, the deadline and the operator's orders what the run comes to."""
        driver = self._driver
        if self.finish is None:
            self.finish = self._finishing.finish(now, self.deadline)
        if self._mail.orders:
            self._obey(decision)
        elif isinstance(self.finish, Failed) and self.finish.retry_after is not None:
            again = [index for index in driver.last_failed if index not in driver.interrupted]
            set_aside(decision, again, "the run is tried again", "retry policy")

    def _obey(self, decision: Decision) -> None:
        undelivered = self.history.ordered[self._delivering + 1 :]
        self.finish = obey_all(
            self._mail.orders, self._finishing, self.finish, decision, undelivered, self._states, self.waiting
        )

    def _park(self, reason: str, problem: Divergence | CodecError) -> None:
        self.finish, self.problem = Parked(reason, str(problem)), problem
        self._driver.cut_all()
