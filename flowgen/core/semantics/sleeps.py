"""Sleep: an absolute due time, fixed once by the database, that no replay moves."""

from __future__ import annotations

from datetime import timedelta

from flowgen.core.branches import Leaf
from flowgen.core.commands import Sleep
from flowgen.core.entries import Entry, EntryKind, OutcomeKind
from flowgen.core.semantics.asking import Asking, outcome

__all__ = ["ask"]


def ask(leaf: Leaf, command: Sleep, asking: Asking) -> None:
    due_at = command.until if command.until is not None else asking.state.armed_at
    if due_at is None and command.duration:
        asking.record(leaf, Entry(-1, EntryKind.ARMED, leaf.key, leaf.fingerprint, delay=command.duration))
    elif due_at is not None and due_at - asking.now > timedelta(0):
        asking.wait(leaf, due_at)
    else:
        asking.record(leaf, outcome(leaf, OutcomeKind.VALUE, "null"))
