"""WaitSignal and Signal: a message to one run, taken once, in the order of the sending."""

from __future__ import annotations

import json
from typing import Any

from flowgen.core import codec
from flowgen.core.branches import Ended, Leaf
from flowgen.core.commands import Signal, WaitSignal
from flowgen.core.decision import SignalRequest, more
from flowgen.core.entries import Entry, EntryKind, Message, MessageKind, OutcomeKind, address
from flowgen.core.failures import failure_from_json, failure_to_json
from flowgen.core.mailbox import number
from flowgen.core.semantics.asking import Asking, outcome
from flowgen.core.trees import SEAL, sealed_by
from flowgen.errors import CodecError, Failure, StepFailed, WaitFailed, WaitTimedOut

__all__ = ["answer", "ask", "plain", "prepare", "unfit", "wait_failed"]


def prepare(command: Signal | WaitSignal[Any]) -> str | None:
    """The payload to send as JSON. Raises CodecError, also for a type that no payload can have."""
    if isinstance(command, Signal):
        return codec.encode(command.payload, what=f"the payload of the signal {command.name}")
    codec.check_type(command.expected, what=f"the signal {command.name}")
    return None


def ask(leaf: Leaf, command: Signal | WaitSignal[Any], asking: Asking) -> None:
    if isinstance(command, WaitSignal):
        _ask_wait(leaf, command, asking)
        return
    request = SignalRequest(leaf.key, command, leaf.text or "null")
    asking.decision.signals = more(asking.decision.signals, request)
    asking.record(leaf, outcome(leaf, OutcomeKind.VALUE, "null"))


def _ask_wait(leaf: Leaf, command: WaitSignal[Any], asking: Asking) -> None:
    listens = address(MessageKind.SIGNAL, command.name)
    message = asking.mail.first(listens)
    due_at = asking.state.armed_at
    if message is not None:
        entry = _held(leaf, command, message)
        asking.mail.take(message)
        asking.record(leaf, entry)
    elif command.timeout is not None and due_at is None:
        asking.record(leaf, Entry(-1, EntryKind.ARMED, leaf.key, leaf.fingerprint, delay=command.timeout))
    elif due_at is not None and due_at <= asking.now:
        asking.record(leaf, outcome(leaf, OutcomeKind.TIMEOUT, None))
    else:
        asking.wait(leaf, due_at, listens)


def _held(leaf: Leaf, command: WaitSignal[Any], message: Message) -> Entry:
    """The outcome that holds a signal: its payload, or how that does not fit. Raises CodecError for a sealed one."""
    what = f"the signal {command.name}"
    text = plain(message.payload, what)
    misfit = unfit(text, command.expected, what)
    if misfit is None:
        return outcome(leaf, OutcomeKind.VALUE, text, attempt=number(message))
    return outcome(leaf, OutcomeKind.FAILURE, failure_to_json(misfit), attempt=number(message))


def plain(payload: str, what: str) -> str:
    """The payload, unless it is sealed: then it waits for a worker with the codec. Raises CodecError."""
    if payload.startswith(f'"{SEAL}'):
        by = sealed_by(json.loads(payload))
        raise CodecError(f"{what} is encoded with the codec {by!r}, and this worker cannot read it")
    return payload


def unfit(text: str, expected: Any, what: str) -> Failure | None:
    """Why a payload is not of the type that is expected, with the path to what does not fit; None when it is."""
    try:
        codec.decode(text, expected, what=what)
    except CodecError as error:
        return Failure("CodecError", str(error), details={"permanent": True})
    return None


def answer(leaf: Leaf, command: Signal | WaitSignal[Any], entry: Entry) -> Ended:
    if isinstance(command, WaitSignal):
        return _answer_wait(leaf, command, entry)
    if entry.status == OutcomeKind.VALUE:
        return Ended()
    failure = failure_from_json(entry.value or "null")
    said = f"{leaf.key} was not sent: {failure.message}"
    return Ended(error=StepFailed(said, failure=failure, name=leaf.key, attempts=1))


def _answer_wait(leaf: Leaf, command: WaitSignal[Any], entry: Entry) -> Ended:
    what = f"the signal {command.name}"
    match entry.status:
        case OutcomeKind.VALUE:
            return Ended(codec.decode(entry.value or "null", command.expected, what=what))
        case OutcomeKind.TIMEOUT:
            waited = "" if command.timeout is None else f" within {command.timeout.total_seconds():g} s"
            return Ended(error=WaitTimedOut(f"{what} did not come{waited}", name=leaf.key))
        case _:
            return wait_failed(leaf, entry, what)


def wait_failed(leaf: Leaf, entry: Entry, what: str) -> Ended:
    """What is thrown for a recorded failure of a wait."""
    failure = failure_from_json(entry.value or "null")
    return Ended(error=WaitFailed(f"{what} failed: {failure}", failure=failure, name=leaf.key))
