"""CompletionToken, and Wait for one: what is completed or failed from outside, once, by a signed text."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from uuid import UUID

from flowgen.core import codec
from flowgen.core.branches import Ended, Leaf
from flowgen.core.commands import CompletionToken, Token, Wait
from flowgen.core.entries import Entry, EntryKind, MessageKind, OutcomeKind, address
from flowgen.core.failures import failure_to_json
from flowgen.core.semantics.asking import Asking, outcome
from flowgen.core.semantics.signals import plain, unfit, wait_failed
from flowgen.core.tokens import COMPLETED, FAILED, written
from flowgen.errors import Failure, WaitTimedOut

__all__ = ["answer", "answer_wait", "ask", "ask_wait", "prepare"]


def prepare(command: CompletionToken[Any]) -> str | None:
    """It stores nothing. Raises CodecError for a type that no value can have."""
    codec.check_type(command.expected, what="the value of a CompletionToken")
    return None


def ask(leaf: Leaf, command: CompletionToken[Any], asking: Asking) -> None:
    due_at = asking.state.armed_at
    if command.timeout is not None and due_at is None:
        asking.record(leaf, Entry(-1, EntryKind.ARMED, leaf.key, leaf.fingerprint, delay=command.timeout))
        return
    run_id, token_id = asking.facts.uuid, UUID(bytes=asking.entropy(16), version=4)
    value = {
        "run_id": str(run_id),
        "id": str(token_id),
        "text": written(asking.facts.secret, run_id, token_id, due_at),
        "due_at": None if due_at is None else due_at.isoformat(),
    }
    asking.record(leaf, outcome(leaf, OutcomeKind.VALUE, json.dumps(value)))


def answer(leaf: Leaf, command: CompletionToken[Any], entry: Entry) -> Ended:
    value = codec.decode(entry.value or "null", dict[str, str | None], what=f"the token {leaf.key}")
    due_at = value.get("due_at")
    return Ended(
        Token(
            leaf.key,
            UUID(value["run_id"]),
            UUID(value["id"]),
            value["text"],
            None if due_at is None else datetime.fromisoformat(due_at),
            command.expected,
        )
    )


def ask_wait(leaf: Leaf, command: Wait[Any], token: Token[Any], asking: Asking) -> None:
    if token.run_id != asking.facts.uuid:
        asking.record(leaf, outcome(leaf, OutcomeKind.FAILURE, failure_to_json(_others(token))))
        return
    listens = address(MessageKind.TOKEN, str(token.id))
    message = asking.mail.first(listens)
    state = asking.state
    if message is not None:
        # It stays in the inbox, for a second Wait and as the proof that the token was used, until the run ends.
        asking.record(leaf, _told(leaf, token, message.payload))
        return
    if command.options.timeout is not None and state.armed_at is None:
        asking.record(leaf, Entry(-1, EntryKind.ARMED, leaf.key, leaf.fingerprint, delay=command.options.timeout))
        return
    due_at = min((each for each in (token.due_at, state.armed_at) if each is not None), default=None)
    if due_at is not None and due_at <= asking.now:
        asking.record(leaf, outcome(leaf, OutcomeKind.TIMEOUT, None))
    else:
        asking.wait(leaf, due_at, listens)


def _others(token: Token[Any]) -> Failure:
    said = (
        f"the token was made by the run {token.run_id}, and only that run is told: let it wait, and pass on the value"
    )
    return Failure("DefinitionError", said, details={"permanent": True})


def _told(leaf: Leaf, token: Token[Any], payload: str) -> Entry:
    what = f"the value of the token {token.key}"
    told = plain(payload, what)
    if told.startswith(FAILED):
        return outcome(leaf, OutcomeKind.FAILURE, told[len(FAILED) : -1])
    text = told.removeprefix(COMPLETED)[:-1]
    misfit = unfit(text, token.result_type, what)
    if misfit is None:
        return outcome(leaf, OutcomeKind.VALUE, text)
    return outcome(leaf, OutcomeKind.FAILURE, failure_to_json(misfit))


def answer_wait(leaf: Leaf, token: Token[Any], entry: Entry) -> Ended:
    what = f"the token {token.key}"
    match entry.status:
        case OutcomeKind.VALUE:
            return Ended(codec.decode(entry.value or "null", token.result_type, what=f"the value of {what}"))
        case OutcomeKind.TIMEOUT:
            return Ended(error=WaitTimedOut(f"{what} was not completed in time", name=leaf.key))
        case _:
            return wait_failed(leaf, entry, what)
