"""Invoke, Start and Wait: child runs, how they are made once, and what their ends mean to the parent."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from flowgen.core import codec
from flowgen.core.branches import Ended, Leaf
from flowgen.core.commands import Invoke, RunRef, Start, Token, Wait
from flowgen.core.decision import UNWANTED, ChildStart, more
from flowgen.core.definitions import Definition
from flowgen.core.entries import Entry, EntryKind, Message, OutcomeKind
from flowgen.core.facts import RunFacts
from flowgen.core.failures import failure_from_json, failure_to_json
from flowgen.core.ids import uuid7, uuid_of_id
from flowgen.core.inputs import encode_input
from flowgen.core.semantics import tokens
from flowgen.core.semantics.asking import Asking, outcome
from flowgen.errors import ChildCancelled, ChildFailed, ChildTimedOut, CodecError, DefinitionError, Failure

__all__ = ["MAX_DEPTH", "answer", "answer_start", "ask", "prepare"]

MAX_DEPTH: Final = 100
"""Runs that may stand above a run."""


def _result_type(definition: Definition[..., Any, Any] | str) -> Any:
    return Any if isinstance(definition, str) else definition.function.result_type


def prepare(command: Invoke[Any] | Start[Any], facts: RunFacts) -> str:
    """The input of the child as JSON.

    Raises CodecError or TypeError for arguments that do not fit, DefinitionError below `MAX_DEPTH`.
    """
    if facts.depth >= MAX_DEPTH and not (isinstance(command, Start) and command.options.detached):
        chain = " -> ".join([*facts.lineage, facts.name, command.target])
        raise DefinitionError(
            f"{type(command).__name__}({command.target}) would be a child of depth {facts.depth + 1}, and {MAX_DEPTH} "
            f"is the most: ... -> {chain}. Does it end? Give the recursion an end, loop instead, or use "
            "Start(...).opts(detached=True), which counts from 0"
        )
    definition = None if isinstance(command.definition, str) else command.definition
    return encode_input(definition, command.target, command.arguments)


def _new_id(asking: Asking, id: str | None) -> UUID:
    if id is not None:
        return uuid_of_id(asking.schema, id)
    return uuid7(int(asking.now.timestamp() * 1000), asking.entropy(10))


def ask(leaf: Leaf, command: Invoke[Any] | Start[Any] | Wait[Any], asking: Asking) -> None:
    match command:
        case Invoke():
            _ask_invoke(leaf, command, asking)
        case Start():
            _ask_start(leaf, command, asking)
        case Wait():
            _ask_wait(leaf, command, asking)


def _ask_invoke(leaf: Leaf, command: Invoke[Any], asking: Asking) -> None:
    if asking.state.child is None:
        run_id = _new_id(asking, command.options.id)
        asking.decision.children = more(
            asking.decision.children, ChildStart(leaf.key, command, run_id, leaf.text or "{}")
        )
        made = Entry(
            -1,
            EntryKind.CHILD,
            leaf.key,
            leaf.fingerprint,
            value=f'"{run_id}"',
            delay=command.options.timeout,
        )
        asking.record(leaf, made)
        return
    _ask_for_end(leaf, leaf.key, asking.state.child, command.options.on_timeout, asking)


def _ask_start(leaf: Leaf, command: Start[Any], asking: Asking) -> None:
    run_id = _new_id(asking, command.options.id)
    asking.decision.children = more(asking.decision.children, ChildStart(leaf.key, command, run_id, leaf.text or "{}"))
    ref = {"run_id": str(run_id), "id": command.options.id, "by": _pass(asking)}
    asking.record(leaf, outcome(leaf, OutcomeKind.VALUE, json.dumps(ref)))


def _ask_wait(leaf: Leaf, command: Wait[Any], asking: Asking) -> None:
    ref = command.ref
    if isinstance(ref, Token):
        tokens.ask_wait(leaf, command, ref, asking)
        return
    if ref.by is not None and ref.by != _pass(asking):
        asking.record(leaf, outcome(leaf, OutcomeKind.FAILURE, failure_to_json(_others(ref, asking))))
        return
    if command.options.timeout is not None and asking.state.armed_at is None and not asking.mailbox.get(ref.key):
        asking.record(leaf, Entry(-1, EntryKind.ARMED, leaf.key, leaf.fingerprint, delay=command.options.timeout))
        return
    _ask_for_end(leaf, ref.key, str(ref.run_id), command.options.on_timeout, asking)


def _pass(asking: Asking) -> str:
    """The run, and which pass of it."""
    facts = asking.facts
    return f"{facts.uuid}@{facts.since}" if facts.since else str(facts.uuid)


def _others(ref: RunRef[Any], asking: Asking) -> Failure:
    """Nobody would tell this run what the child of another comes to."""
    by = str(ref.by).partition("@")[0]
    who = "an earlier pass of this run" if by == str(asking.facts.uuid) else f"the run {by}"
    said = (
        f"{ref.name} was started by {who}, and only that is told what it comes to: let it wait, and pass on the "
        "result; or Invoke it there, with an id"
    )
    return Failure("DefinitionError", said, details={"permanent": True})


def _ask_for_end(leaf: Leaf, message_key: str, child: str, on_timeout: str, asking: Asking) -> None:
    messages = asking.mailbox.get(message_key, [])
    due_at = asking.state.armed_at
    message = None
    for each in messages:
        status, value, run_id = _told(each.payload)
        # A key is used again in the next segment: the child of the same key there is another one.
        if run_id is None or run_id == child:
            message = each
            break
    given_up = message is not None and due_at is not None and _given_up(message, due_at)
    if message is not None and isinstance(leaf.command, Invoke):
        asking.mail.drop(message)
        asking.decision.consumed = more(asking.decision.consumed, message.id)
    if message is not None and not given_up:
        # What Wait was told stays in the inbox, for a second Wait and for a retry, until the run ends.
        asking.record(leaf, outcome(leaf, status, value))
    elif given_up or (due_at is not None and due_at <= asking.now):
        if on_timeout == "cancel":
            asking.decision.cancel_children = more(asking.decision.cancel_children, UUID(child))
        asking.record(leaf, outcome(leaf, OutcomeKind.TIMEOUT, None))
    else:
        asking.wait(leaf, due_at, message_key)


def _given_up(message: Message, due_at: datetime) -> bool:
    """Whether an earlier owner had cancelled the child as timed out, and was lost before it recorded that."""
    if message.created_at is None or message.created_at < due_at:
        return False
    status, value, _ = _told(message.payload)
    error = json.loads(value) if status is OutcomeKind.CANCELLATION else None
    return isinstance(error, dict) and error.get("reason") == UNWANTED


_COMPLETED = '{"status":"completed","output":'
_OF = ',"run_id":"'


def _told(payload: str) -> tuple[OutcomeKind, str, str | None]:
    """What a message says of a child: how it ended, the JSON of its output or error, and its run_id if it says that.

    The store writes the parts in one order, so that an output is taken out as it stands, without being read.
    """
    tail = len(payload) - 38
    if payload.startswith(_COMPLETED) and payload.startswith(_OF, tail - len(_OF)):
        return OutcomeKind.VALUE, payload[len(_COMPLETED) : tail - len(_OF)], payload[tail:-2]
    end = json.loads(payload)
    status = _STATUSES.get(end["status"], OutcomeKind.FAILURE)
    part = "output" if status is OutcomeKind.VALUE else "error"
    return status, json.dumps(end.get(part), separators=(",", ":")), end.get("run_id")


_STATUSES = {"completed": OutcomeKind.VALUE, "cancelled": OutcomeKind.CANCELLATION}


def answer_start(leaf: Leaf, command: Start[Any], entry: Entry) -> Ended:
    if entry.status == OutcomeKind.FAILURE:
        return _failed(leaf, entry)
    ref = codec.decode(entry.value or "{}", what=f"the start of {leaf.key}")
    run_id = UUID(ref["run_id"])
    return Ended(
        RunRef(
            leaf.key,
            run_id,
            ref.get("id") or str(run_id),
            command.target,
            _result_type(command.definition),
            ref.get("by"),
        )
    )


def answer(leaf: Leaf, command: Invoke[Any] | Wait[Any], entry: Entry) -> Ended:
    if isinstance(command, Wait) and isinstance(command.ref, Token):
        return tokens.answer_wait(leaf, command.ref, entry)
    type_ = command.ref.result_type if isinstance(command, Wait) else _result_type(command.definition)
    match entry.status:
        case OutcomeKind.VALUE:
            text = entry.value or "null"
            try:
                return Ended(codec.decode(text, type_))
            except CodecError:
                return Ended(codec.decode(text, type_, what=f"the result of {leaf.key}"))  # the error that names it
        case OutcomeKind.TIMEOUT:
            return Ended(error=ChildTimedOut(f"Child run timed out: {command.target}", name=leaf.key))
        case OutcomeKind.CANCELLATION:
            reason = codec.decode(entry.value or "null", what=f"the end of {leaf.key}")
            said = reason.get("reason") if isinstance(reason, dict) else None
            failure = Failure("RunCancelled", said or "cancelled")
            text = f"Child run was cancelled: {command.target}" + (f" ({said})" if said else "")
            return Ended(error=ChildCancelled(text, failure=failure, name=leaf.key))
        case _:
            return _failed(leaf, entry)


def _failed(leaf: Leaf, entry: Entry) -> Ended:
    failure = failure_from_json(entry.value or "null")
    return Ended(error=ChildFailed(f"Child run failed: {failure}", failure=failure, name=leaf.key))
