"""SetProgress and SetDeadline: a change of the run's own row, committed with the outcome."""

from __future__ import annotations

from flowgen.core import codec
from flowgen.core.branches import Leaf
from flowgen.core.commands import SetDeadline, SetProgress
from flowgen.core.decision import NewDeadline, Progress
from flowgen.core.entries import OutcomeKind
from flowgen.core.semantics.asking import Asking, outcome

__all__ = ["ask", "prepare"]


def prepare(command: SetProgress) -> str:
    """The value as JSON. Raises CodecError for what cannot be stored."""
    return codec.encode(command.value, what="the progress")


def ask(leaf: Leaf, command: SetProgress | SetDeadline, asking: Asking) -> None:
    entry = outcome(leaf, OutcomeKind.VALUE, "null")
    match command:
        case SetProgress():
            asking.decision.progress = Progress(leaf.key, leaf.text or "null")
        case SetDeadline(lasts=lasts):
            asking.decision.deadline = NewDeadline(leaf.key, lasts)
            asking.deadlines.add(leaf.key)
            entry.delay = lasts
    asking.record(leaf, entry)
