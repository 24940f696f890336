"""Now, Uuid, Random: made once, recorded, then replayed."""

from __future__ import annotations

import uuid
from datetime import datetime

from flowgen.core import codec
from flowgen.core.branches import Ended, Leaf
from flowgen.core.commands import Now, Random, Uuid
from flowgen.core.entries import Entry, OutcomeKind
from flowgen.core.semantics.asking import Asking, outcome

__all__ = ["answer", "ask"]


def ask(leaf: Leaf, command: Now | Uuid | Random, asking: Asking) -> None:
    value: object
    match command:
        case Now():
            value = asking.now
        case Uuid():
            value = uuid.UUID(bytes=asking.entropy(16), version=4)
        case Random():
            value = (int.from_bytes(asking.entropy(7), "big") >> 3) / (1 << 53)
    asking.record(leaf, outcome(leaf, OutcomeKind.VALUE, codec.encode(value, _type(command))))


def answer(leaf: Leaf, command: Now | Uuid | Random, entry: Entry) -> Ended:
    return Ended(codec.decode(entry.value or "null", _type(command), what=f"the value of {leaf.key}"))


def _type(command: Now | Uuid | Random) -> type:
    match command:
        case Now():
            return datetime
        case Uuid():
            return uuid.UUID
        case Random():
            return float
