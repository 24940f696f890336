"""Emit and WaitEvent: what is told to whoever waits, and which event answers a wait.

A wait is registered in the commit of its ARMED entry. The store delivers the first event that fits and has its place
behind the one that answered such a wait before; nothing that comes in twice, or for an older wait under the same key,
is taken. After a replay the wait is registered again, as nobody knows what became of the registration meanwhile.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from flowgen.core import codec
from flowgen.core.branches import Ended, Leaf, heard_before
from flowgen.core.commands import Emit, WaitEvent
from flowgen.core.decision import EmitRequest, ListenRequest, more
from flowgen.core.entries import Entry, EntryKind, Message, MessageKind, OutcomeKind, address
from flowgen.core.ids import uuid7
from flowgen.core.semantics.asking import Asking, outcome
from flowgen.errors import WaitTimedOut

__all__ = ["answer", "ask", "letter", "opened", "prepare"]

_BEGIN = '{"payload":'
_PLACE = ',"at":'
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def letter(payload: str, place: datetime, fingerprint: str) -> str:
    """What a message about an event holds, as the store writes it."""
    microseconds = (place - _EPOCH) // timedelta(microseconds=1)
    return f'{_BEGIN}{payload}{_PLACE}{microseconds},"of":{json.dumps(fingerprint)}}}'


def opened(text: str) -> tuple[str, datetime, str]:
    """The payload as it stands, the event's place, and the fingerprint of the wait that it was found for."""
    end = text.rindex(_PLACE)
    told: dict[str, Any] = json.loads("{" + text[end + 1 :])
    return text[len(_BEGIN) : end], _EPOCH + timedelta(microseconds=told["at"]), told["of"]


def prepare(command: Emit) -> str:
    """The payload as JSON. Raises CodecError."""
    return codec.encode(command.payload, what=f"the payload of the event {command.name}")


def ask(leaf: Leaf, command: Emit | WaitEvent, asking: Asking) -> None:
    if isinstance(command, Emit):
        _emit(leaf, command, asking)
    else:
        _wait(leaf, command, asking)


def _emit(leaf: Leaf, command: Emit, asking: Asking) -> None:
    event_id = uuid7(int(asking.now.timestamp() * 1000), asking.entropy(10))
    request = EmitRequest(leaf.key, command.name, event_id, leaf.text or "null")
    asking.decision.emits = more(asking.decision.emits, request)
    asking.record(leaf, outcome(leaf, OutcomeKind.VALUE, f'"{event_id}"'))


def _wait(leaf: Leaf, command: WaitEvent, asking: Asking) -> None:
    state, key = asking.state, address(MessageKind.EVENT, leaf.key)
    after = heard_before(leaf.branch, leaf.fingerprint)
    found = _first(asking.mail.boxes.pop(key, ()), leaf, after)
    if found is not None:
        payload, place = found
        answered = outcome(leaf, OutcomeKind.VALUE, payload)
        answered.due_at = place
        asking.decision.quits = more(asking.decision.quits, leaf.key)
        asking.record(leaf, answered)
        return
    if state.armed_at is not None and state.armed_at <= asking.now:
        asking.decision.quits = more(asking.decision.quits, leaf.key)
        asking.record(leaf, outcome(leaf, OutcomeKind.TIMEOUT, None))
        return
    if not state.armed or state.armed_before:
        request = ListenRequest(leaf.key, command.name, leaf.fingerprint, command.filter, after)
        asking.decision.listens = more(asking.decision.listens, request)
    if not state.armed:
        timeout = command.options.timeout
        asking.record(leaf, Entry(-1, EntryKind.ARMED, leaf.key, leaf.fingerprint, delay=timeout))
        return
    state.armed_before = False
    asking.wait(leaf, state.armed_at, key)


def _first(letters: Any, leaf: Leaf, after: datetime | None) -> tuple[str, datetime] | None:
    """What answers the wait, of what was delivered under its key."""
    fitting: list[tuple[datetime, str]] = []
    each: Message
    for each in letters:
        payload, place, fingerprint = opened(each.payload)
        if fingerprint == leaf.fingerprint and (after is None or place > after):
            fitting.append((place, payload))
    if not fitting:
        return None
    place, payload = min(fitting)
    return payload, place


def answer(leaf: Leaf, command: Emit | WaitEvent, entry: Entry) -> Ended:
    if isinstance(command, WaitEvent) and entry.status == OutcomeKind.TIMEOUT:
        timeout = command.options.timeout
        said = "" if timeout is None else f" within {timeout.total_seconds():g} s"
        return Ended(error=WaitTimedOut(f"{leaf.key}: no event {command.name!r} came{said}", name=leaf.key))
    return Ended(codec.decode(entry.value or "null", what=f"the outcome of {leaf.key}"))
