"""Now, Uuid, Random, Patch: made once, recorded, then replayed."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime

from flowgen.core import codec
from flowgen.core.branches import Ended, Leaf
from flowgen.core.commands import Now, Patch, Random, Uuid
from flowgen.core.entries import Entry, OutcomeKind
from flowgen.core.semantics.asking import Asking, outcome

__all__ = ["answer", "answer_patch", "ask", "patch_entry"]


def ask(leaf: Leaf, command: Now | Uuid | Random | Patch, asking: Asking) -> None:
    value: object
    match command:
        case Patch():
            asking.record(leaf, patch_entry(leaf, asking.answers))
            return
        case Now():
            value = asking.now
        case Uuid():
            value = uuid.UUID(bytes=asking.entropy(16), version=4)
        case Random():
            value = (int.from_bytes(asking.entropy(7), "big") >> 3) / (1 << 53)
    asking.record(leaf, outcome(leaf, OutcomeKind.VALUE, codec.encode(value, _type(command))))


def answer(leaf: Leaf, command: Now | Uuid | Random, entry: Entry) -> Ended:
    return Ended(codec.decode(entry.value or "null", _type(command), what=f"the value of {leaf.key}"))


def patch_entry(leaf: Leaf, answers: Mapping[str, bool]) -> Entry:
    """The place is reached for the first time: True, unless the run has taken the old way elsewhere."""
    answer = answers.get(leaf.command.target, True)
    entry = outcome(leaf, OutcomeKind.VALUE, codec.encode(answer))
    entry.named = leaf.named or answer  # it is kept, so that no later segment records it again
    return entry


def answer_patch(leaf: Leaf, entry: Entry) -> Ended:
    return Ended(codec.decode(entry.value or "null", bool, what=f"the value of {leaf.key}"))


def _type(command: Now | Uuid | Random) -> type:
    match command:
        case Now():
            return datetime
        case Uuid():
            return uuid.UUID
        case Random():
            return float
