"""The bench: one run that lives in memory, with virtual time, carried out as a worker would on a database.

It commits what decisions ask for, gives indexes and times, and moves its clock; it never sleeps and never calls a
function of the user's. The invariant: an outcome is delivered only after it stands in `items`, so that a new execution
over `items` gives the same run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any
from uuid import UUID

import attrs

from flowgen.core import codec
from flowgen.core.branches import Leaf
from flowgen.core.commands import Command
from flowgen.core.context import LogPort, RunFacts
from flowgen.core.decision import (
    Cancelled,
    ChildStart,
    Completed,
    Continued,
    Decision,
    Failed,
    Finish,
    FunctionCall,
    Parked,
    Restarted,
    Result,
    SignalRequest,
)
from flowgen.core.definitions import Definition
from flowgen.core.endings import cancellation_to_json
from flowgen.core.entries import Entry, EntryKind, Message, MessageKind, OutcomeKind
from flowgen.core.failures import failure_to_json
from flowgen.core.history import History
from flowgen.core.interpreter import Execution
from flowgen.core.ports import no_log

__all__ = ["BEGINNING", "Bench"]

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
"""The virtual time at which runs start unless a test says another."""

TEST_UUID = UUID(int=0x7357)

MAX_ROUNDS = 100_000
"""Commits after which a run is taken for one that never ends."""


@attrs.define(kw_only=True, eq=False)
class Bench:
    """One run in memory."""

    definition: Definition[..., Any, Any]
    input: str
    now: datetime = BEGINNING
    uuid: UUID = TEST_UUID
    id: str = "test"
    services: Any = None
    log: LogPort = no_log
    hold: Callable[[Leaf], bool] | None = None
    """Entries that answer a command for which this is true are not committed but put into `held`."""
    items: list[Entry] = attrs.field(factory=list)
    commands: list[Command[Any]] = attrs.field(factory=list)
    warnings: list[str] = attrs.field(factory=list)
    calls: dict[str, FunctionCall] = attrs.field(factory=dict)
    """Functions that are to be called, by key."""
    children: dict[UUID, ChildStart] = attrs.field(factory=dict)
    """Every child that was started."""
    held: dict[str, Entry] = attrs.field(factory=dict)
    signals: dict[str, SignalRequest] = attrs.field(factory=dict)
    """Those that are to be sent with their outcome, by key."""
    finish: Finish | None = None
    attempt: int = 1
    execution: Execution = attrs.field(init=False)
    progress: str | None = None
    """JSON text of what it said last with SetProgress."""
    _base: int = 0
    _prologue: int = 0
    _drawn: int = 0
    _letters: int = 0
    _inbox: dict[int, Message] = attrs.field(factory=dict)
    _rounds: int = 0
    _deadline: datetime | None = attrs.field(init=False, default=None)
    _created_at: datetime = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._created_at = self.now
        if self.definition.options.deadline is not None:
            self._deadline = self.now + self.definition.options.deadline
        self.restart()

    # driving

    def restart(self) -> None:
        """Drop the execution and make a new one over what is recorded."""
        if self._rounds:
            self.execution.close()
        self.calls.clear()
        self.held.clear()
        facts = RunFacts(
            run_id=self.id,
            uuid=self.uuid,
            name=self.definition.name,
            attempt=self.attempt,
            max_attempts=self.definition.options.retry.max_attempts,
            resumed=bool(self.items),
            services=self.services,
            log=self.log,
        )
        self.execution = Execution(
            self.definition,
            facts,
            self.input,
            History.of(self.items, base=self._base, prologue=self._prologue),
            entropy=self._entropy,
            deadline=self._deadline,
            created_at=self._created_at,
            yielded=self.commands,
        )
        self.execution.post(list(self._inbox.values()))

    def go(self, delivered: Sequence[Entry] = ()) -> None:
        """Advance and commit until a call, a child or a time is waited for, or the run is over."""
        while self.finish is None:
            self._rounds += 1
            if self._rounds > MAX_ROUNDS:
                raise AssertionError(f"{self.definition.name} has not ended after {MAX_ROUNDS} commits")
            delivered = self._carry_out(self.execution.advance(self.now, delivered))
            if not delivered:
                return

    def settle(self, key: str, result: Result) -> None:
        """A call came to this."""
        del self.calls[key]
        entry = self.execution.settle(key, result)
        if entry is not None:
            self.record(entry)

    def record(self, entry: Entry) -> None:
        """Commit an entry, and go on."""
        self.held.pop(entry.key, None)
        self.calls.pop(entry.key, None)
        self.go([self._commit(entry)])

    def child_ended(self, key: str, run_id: UUID, payload: dict[str, Any]) -> None:
        """A child run of the command `key` ended: its letter comes into the inbox."""
        self._post(MessageKind.CHILD, key, codec.encode({**payload, "run_id": str(run_id)}))
        self.go()

    def signalled(self, name: str, payload: object) -> None:
        """Somebody sends the run a signal."""
        self._post(MessageKind.SIGNAL, name, codec.encode(payload))
        self.go()

    def token_used(self, token_id: UUID, message: str) -> None:
        """Somebody uses a completion token; `message` as `flowgen.core.tokens` makes it."""
        self._post(MessageKind.TOKEN, str(token_id), message)
        self.go()

    def _sent(self, signal: SignalRequest) -> None:
        """What a run sends to itself arrives; who else there is, a bench does not know."""
        if str(signal.command.run) in (self.id, str(self.uuid)):
            self._post(MessageKind.SIGNAL, signal.command.name, signal.payload)

    def _post(self, kind: MessageKind, key: str, text: str) -> None:
        self._letters += 1
        message = Message(self._letters, kind, key, text, self.now)
        self._inbox[message.id] = message
        self.execution.post([message])

    def cancel(self, reason: str | None) -> None:
        """Cancel the run."""
        self.go(self._carry_out(self.execution.cancel(reason)))

    def move_to(self, when: datetime) -> None:
        """Let time pass."""
        self.now = max(self.now, when)
        self.go()

    @property
    def due_at(self) -> datetime | None:
        """When something happens by itself: a timer, the next try of a call, the deadline."""
        times = [call.not_before for call in self.calls.values() if call.not_before is not None]
        times += [each for each in (self.execution.due_at, self.execution.limit) if each is not None]
        return min(times, default=None)

    # commits

    def _carry_out(self, decision: Decision) -> list[Entry]:
        self.warnings.extend(decision.warnings)
        for key in decision.aborts:
            self.calls.pop(key, None)
        for number in decision.consumed:
            self._inbox.pop(number, None)
        if decision.progress is not None:
            self.progress = decision.progress.text
        if decision.deadline is not None:
            lasts = decision.deadline.lasts
            self._deadline = None if lasts is None else self.now + lasts
        self.signals.update((signal.key, signal) for signal in decision.signals)
        self.children.update((child.run_id, child) for child in decision.children)
        self.calls.update((call.key, call) for call in decision.calls)
        committed = [self._commit(entry) for entry in decision.entries if not self._holds(entry)]
        if decision.finish is not None:
            self._finished(decision.finish)
            return []
        return committed

    def _holds(self, entry: Entry) -> bool:
        if self.hold is None or entry.kind not in (EntryKind.OUTCOME, EntryKind.CHECKPOINT):
            return False
        leaf = self.leaf(entry.key)
        if leaf is None or not self.hold(leaf):
            return False
        self.held[entry.key] = entry
        return True

    def _commit(self, entry: Entry) -> Entry:
        index = self.items[-1].index + 1 if self.items else 1
        due_at = self.now + entry.delay if entry.delay is not None else entry.due_at
        committed = attrs.evolve(entry, index=index, recorded_at=self.now, due_at=due_at, delay=None)
        self.items.append(committed)
        if entry.key in self.signals and entry.status == OutcomeKind.VALUE:
            self._sent(self.signals.pop(entry.key))
        if entry.kind == EntryKind.CHECKPOINT:
            self._base, self._prologue = index, self.execution.prologue or 1
        return committed

    def leaf(self, key: str) -> Leaf | None:
        """The command of this key, while it has no outcome."""
        return next((leaf for leaf in self.execution.outstanding() if leaf.key == key), None)

    def _finished(self, finish: Finish) -> None:
        if isinstance(finish, Continued):
            self.items[:] = [each for each in self.items[-1:] if each.kind == EntryKind.PASS]
            self.input, self._base, self._prologue, self.attempt = finish.input, 0, 0, 1
            self._created_at = self.now
            self._inbox = {number: each for number, each in self._inbox.items() if each.kind != MessageKind.CHILD}
            self.restart()
            self.go()
        elif isinstance(finish, Restarted):
            self.restart()
            self.go()
        elif isinstance(finish, Failed) and finish.retry_after is not None:
            self.attempt += 1
            self.now += finish.retry_after
            self.restart()
            self.go()
        else:
            self.finish = finish

    def _entropy(self, size: int) -> bytes:
        self._drawn += 1
        return blake2b(f"{self.uuid}/{self._drawn}".encode(), digest_size=size).digest()

    # how it ended

    @property
    def output(self) -> str | None:
        """JSON text of the result of a completed run."""
        return self.finish.output if isinstance(self.finish, Completed) else None

    @property
    def error_text(self) -> str | None:
        """JSON text of why the run did not complete."""
        match self.finish:
            case Failed(failure):
                return failure_to_json(failure)
            case Cancelled():
                return cancellation_to_json(self.finish)
            case Parked(reason, detail):
                return codec.encode({"reason": reason, "detail": detail})
            case _:
                return None

    @property
    def status(self) -> str:
        match self.finish:
            case None:
                return "waiting"
            case Completed():
                return "completed"
            case Failed():
                return "failed"
            case Cancelled():
                return "cancelled"
            case _:
                return "parked"

    @property
    def letters(self) -> list[Message]:
        """The inbox."""
        return list(self._inbox.values())

    @property
    def base(self) -> int:
        return self._base

    @property
    def prologue(self) -> int:
        return self._prologue
