"""Schedule and Unschedule: an effect of the database, committed with its outcome."""

from __future__ import annotations

from flowgen.core.branches import Leaf
from flowgen.core.commands import Schedule, Unschedule
from flowgen.core.decision import ScheduleRequest, more
from flowgen.core.entries import OutcomeKind
from flowgen.core.inputs import encode_input
from flowgen.core.semantics.asking import Asking, outcome

__all__ = ["ask", "prepare"]


def prepare(command: Schedule) -> str:
    """The input of the scheduled runs as JSON. Raises CodecError or TypeError for arguments that do not fit."""
    return encode_input(command.call.definition, command.call.name, command.call.arguments)


def ask(leaf: Leaf, command: Schedule | Unschedule, asking: Asking) -> None:
    asking.decision.schedules = more(asking.decision.schedules, ScheduleRequest(command, leaf.text or "{}"))
    asking.record(leaf, outcome(leaf, OutcomeKind.VALUE, "null"))
