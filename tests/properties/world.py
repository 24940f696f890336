"""One run under a random scheduler: commits in any batches, calls that end in any order, time that jumps, crashes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import attrs

from flowgen.core import codec, tokens
from flowgen.core.branches import Phase
from flowgen.core.commands import Choose
from flowgen.core.context import RunFacts
from flowgen.core.decision import (
    Continued,
    Decision,
    Failed,
    FunctionCall,
    ListenRequest,
    Raised,
    Restarted,
    Result,
    Returned,
    SignalRequest,
)
from flowgen.core.definitions import Workflow
from flowgen.core.entries import Entry, EntryKind, Message, MessageKind, address
from flowgen.core.history import History
from flowgen.core.interpreter import Execution
from flowgen.core.semantics.events import letter
from flowgen.errors import PermanentError

START = datetime(2026, 1, 1, tzinfo=UTC)


@attrs.define
class Pending:
    """An entry that waits for its commit; `call` is set when it is the result of one."""

    entry: Entry
    consumed: tuple[int, ...] = ()
    quits: tuple[str, ...] = ()
    call: FunctionCall | None = None


class World:
    """The run, what is durable of it, and its live execution."""

    def __init__(self, spellings: list[Workflow[Any, Any, Any]], program: Any, random: Random) -> None:
        self.spellings = spellings
        self.input = json.dumps({"spec": program})
        self.created_at = START
        self.used: set[str] = set()
        """Tokens that were completed or failed."""
        self.random = random
        self.now = START
        self.history: list[Entry] = []
        self.base = 0
        self.prologue = 0
        self.attempt = 1
        self.inbox: dict[int, Message] = {}
        self.children: dict[UUID, str] = {}
        self.letters = 0
        self.listens: dict[str, ListenRequest] = {}
        self.waits: dict[str, ListenRequest] = {}
        """The waits for events, as they are registered."""
        self.place = START
        self.finish: Any = None
        self.crashes = 0
        self.start()

    # executions

    def fresh(self) -> Execution:
        """A new execution over what is durable, in any spelling."""
        spelling = self.random.choice(self.spellings)
        facts = RunFacts(run_id="r", uuid=UUID(int=5), name="program", attempt=self.attempt, services=[])
        history = History.of(list(self.history), base=self.base, prologue=self.prologue)
        entropy = Random(len(self.history)).randbytes
        made = Execution(spelling, facts, self.input, history, entropy=entropy, created_at=self.created_at)
        made.post(self.inbox.values())
        return made

    def start(self) -> None:
        self.pending: list[Pending] = []
        self.calls: dict[str, FunctionCall] = {}
        self.flying: list[Entry] = []
        self.signals: dict[str, SignalRequest] = {}
        self.read: list[int] = []
        self.live = self.fresh()
        self.carry_out(self.live.advance(self.now))

    def crash(self) -> None:
        self.crashes += 1
        self.live.close()
        self.start()

    # what a worker does

    def carry_out(self, decision: Decision) -> None:
        self.hang_up = decision.hang_up
        for key in decision.aborts:
            self.calls.pop(key, None)
        self.pending.extend(Pending(entry) for entry in decision.entries)
        self.signals.update((signal.key, signal) for signal in decision.signals)
        if decision.entries:
            self.pending[-1].consumed = decision.consumed
        else:
            self.read.extend(decision.consumed)
        self.listens |= {each.key: each for each in decision.listens}
        armed = {
            entry.key
            for entry in self.history
            if entry.kind == EntryKind.ARMED and (entry.index >= self.base or entry.index < self.prologue)
        }
        self.waits |= {each.key: each for each in decision.listens if each.key in armed}
        if decision.quits and self.pending:
            self.pending[-1].quits += tuple(decision.quits)
        else:
            self.quit(decision.quits)
        for call in decision.calls:
            assert call.key not in self.calls
            self.calls[call.key] = call
        if decision.finish is not None:
            self.end(decision)

    def end(self, decision: Decision) -> None:
        while self.pending:
            self.commit(len(self.pending))
        self.flying.clear()
        finish = decision.finish
        if isinstance(finish, Continued):
            self.goes_on(finish)
        elif isinstance(finish, Restarted) or (isinstance(finish, Failed) and finish.retry_after is not None):
            if isinstance(finish, Failed):
                self.attempt += 1
                self.now += finish.retry_after or timedelta(0)
            self.live.close()
            self.start()
        else:
            self.finish = finish

    def goes_on(self, finish: Continued) -> None:
        """The next pass begins, with nothing of the history; letters of others than children stay."""
        self.input, self.created_at, self.attempt, self.base, self.prologue = finish.input, self.now, 1, 0, 0
        self.history.clear()
        for kept in (self.children, self.listens, self.waits):
            kept.clear()
        for message in [each for each in self.inbox.values() if each.kind == MessageKind.CHILD]:
            del self.inbox[message.id]
        self.live.close()
        self.start()

    def commit(self, count: int) -> list[Entry]:
        taken, self.pending = self.pending[:count], self.pending[count:]
        stamped: list[Entry] = []
        index = self.history[-1].index + self.random.choice([1, 1, 2]) if self.history else 1
        for each in taken:
            entry = each.entry
            due_at = self.now + entry.delay if entry.delay is not None else entry.due_at
            stamped.append(attrs.evolve(entry, index=index, recorded_at=self.now, due_at=due_at, delay=None))
            index += 1
            for number in each.consumed:
                self.inbox.pop(number, None)
        while self.read:
            self.inbox.pop(self.read.pop(), None)
        self.history.extend(stamped)
        for entry in stamped:
            if entry.kind == EntryKind.CHECKPOINT:
                assert self.live.prologue is not None
                self.base, self.prologue = entry.index, self.live.prologue
            if entry.key in self.signals:
                self.tell(MessageKind.SIGNAL, self.signals[entry.key].command.name, self.signals.pop(entry.key).payload)
            if entry.kind == EntryKind.ARMED and entry.key in self.listens:
                self.waits[entry.key] = self.listens[entry.key]
            if entry.kind == EntryKind.CHILD:
                self.children[UUID(json.loads(entry.value or ""))] = entry.key
            if (entry.fingerprint or "").startswith("start:"):
                self.children[UUID(json.loads(entry.value or "")["run_id"])] = entry.key
        for each in taken:
            self.quit(each.quits)
        return stamped

    def flush(self) -> None:
        self.flying = self.commit(self.random.randint(1, len(self.pending)))

    def land(self) -> None:
        landed, self.flying = self.flying, []
        self.carry_out(self.live.advance(self.now, landed))

    def settle(self) -> None:
        key = self.random.choice(list(self.calls))
        call = self.calls[key]
        if call.not_before is not None and call.not_before > self.now:
            return
        del self.calls[key]
        entry = self.live.settle(key, result_of(call))
        if entry is not None:
            self.pending.append(Pending(entry, call=call))

    def child_ends(self) -> None:
        run_id = self.random.choice(list(self.children))
        key = self.children.pop(run_id)
        end: dict[str, Any] = {"status": self.random.choice(["completed", "completed", "failed", "cancelled"])}
        if end["status"] == "completed":
            end["output"] = f"result of {key}"
        elif end["status"] == "failed":
            end["error"] = {"type": "ValueError", "message": "child"}
        else:
            end["error"] = {"reason": None}
        end["run_id"] = str(run_id)
        self.tell(MessageKind.CHILD, key, codec.encode(end))

    def tell(self, kind: MessageKind, key: str, payload: str) -> None:
        self.letters += 1
        message = Message(self.letters, kind, key, payload)
        self.inbox[message.id] = message
        self.live.post([message])

    def quit(self, keys: Iterable[str]) -> None:
        """The registrations of waits that are over go, and what was delivered to them."""
        for key in keys:
            self.waits.pop(key, None)
            for message in [each for each in self.inbox.values() if (each.kind, each.key) == (MessageKind.EVENT, key)]:
                del self.inbox[message.id]

    def event_comes(self) -> None:
        """The next event is told to some of those who wait."""
        self.place += timedelta(seconds=1)
        for key in self.random.sample(list(self.waits), self.random.randint(1, len(self.waits))):
            wait = self.waits.pop(key)
            self.letters += 1
            text = letter('{"n":1}', self.place, wait.fingerprint)
            message = Message(self.letters, MessageKind.EVENT, key, text)
            self.inbox[message.id] = message
            self.live.post([message])

    @property
    def tokens(self) -> list[str]:
        """The tokens that are waited for, and were not used."""
        begins = address(MessageKind.TOKEN, "")
        waited = [leaf.message_key for leaf in self.live.outstanding() if leaf.message_key is not None]
        return [key[len(begins) :] for key in waited if key.startswith(begins) and key[len(begins) :] not in self.used]

    def token_is_used(self) -> None:
        token = self.random.choice(self.tokens)
        self.used.add(token)
        text = tokens.completed('"told"') if self.random.random() < 0.7 else tokens.failed('{"type":"E","message":"m"}')
        self.tell(MessageKind.TOKEN, token, text)

    def tick(self) -> None:
        self.now += timedelta(seconds=self.random.choice([0, 0.5, 2, 30]))

    def cancel(self) -> None:
        self.carry_out(self.live.cancel("enough"))

    def advance(self) -> None:
        self.carry_out(self.live.advance(self.now))

    # what is waited for

    def asked(self, execution: Execution, decision: Decision | None) -> dict[str, Any]:
        """Everything that an execution asks for: a key, what is asked, and of which attempt."""
        asked: dict[str, Any] = {}
        calls = {call.key: call for call in decision.calls} if decision is not None else dict(self.calls)
        entries = (
            list(decision.entries) if decision is not None else [each.entry for each in self.pending if not each.call]
        )
        if decision is None:
            calls |= {each.entry.key: each.call for each in self.pending if each.call is not None}
        for leaf in execution.outstanding():
            call = calls.get(leaf.key)
            # A wait for the next attempt is a call that waits, or no call yet when it is long.
            if leaf.command.kind == "waitsignal":
                what: Any = ("signal", leaf.named)  # which wait takes which is settled by what is committed
            elif call is not None and call.not_before is not None and call.not_before > self.now:
                what = ("later", call.not_before)
            elif call is not None:
                what = ("call", call.attempt)
            elif leaf.phase is Phase.WAITING and leaf.command.kind in ("step", "transaction"):
                what = ("later", leaf.due_at)
            elif leaf.phase is Phase.COMMITTING and leaf.command.kind == "event":
                what = ("entry",)  # what was delivered to the wait before it under the same key may answer a replay
            elif leaf.phase is Phase.COMMITTING:
                entry = next(entry for entry in reversed(entries) if entry.key == leaf.key)
                # What is not committed may still come out otherwise: the child's end and its timeout both wait.
                status = None if leaf.command.kind in ("invoke", "wait") else entry.status
                what = ("entry", EntryKind(entry.kind).name, status, entry.attempt, entry.delay)
            else:
                what = (leaf.phase.name, leaf.due_at, leaf.message_key)
            asked[leaf.key] = (leaf.fingerprint, leaf.named, what)
        return asked


def result_of(call: FunctionCall) -> Result:
    if call.command.target == "choose":
        return Returned(Choose(*call.command.args[0]))
    label, fails = call.command.args if len(call.command.args) == 2 else call.command.args[0]
    if fails < 0:
        return Raised(PermanentError(label))
    if call.attempt <= fails:
        return Raised(ValueError(f"{label} {call.attempt}"))
    return Returned(f"{label} {call.attempt}")
