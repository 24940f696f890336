"""SetProgress and SetDeadline change the run's row with their outcome; ContinueAsNew ends its handler, not the run."""

from __future__ import annotations

from flowgen.core import codec
from flowgen.core.branches import Leaf, remembered
from flowgen.core.commands import ContinueAsNew, SetDeadline, SetProgress
from flowgen.core.decision import Continued, NewDeadline, Progress
from flowgen.core.entries import Entry, EntryKind, OutcomeKind
from flowgen.core.facts import RunFacts
from flowgen.core.inputs import encode_input
from flowgen.core.semantics.asking import Asking, outcome
from flowgen.errors import DefinitionError

__all__ = ["ask", "prepare", "prepare_input"]


def prepare(command: SetProgress) -> str:
    """The value as JSON. Raises CodecError for what cannot be stored."""
    return codec.encode(command.value, what="the progress")


def ask(leaf: Leaf, command: SetProgress | SetDeadline | ContinueAsNew, asking: Asking) -> None:
    entry = outcome(leaf, OutcomeKind.VALUE, "null")
    match command:
        case ContinueAsNew():
            asking.decision.finish = Continued(leaf.text or "{}")
            if leaf.branch.heard:
                heard = codec.encode(remembered(leaf.branch.heard))
                asking.decision.entries.append(Entry(-1, EntryKind.PASS, "", value=heard, named=True))
            return
        case SetProgress():
            asking.decision.progress = Progress(leaf.key, leaf.text or "null")
        case SetDeadline(lasts=lasts):
            asking.decision.deadline = NewDeadline(leaf.key, lasts)
            asking.deadlines |= {leaf.key}
            entry.delay = lasts
    asking.record(leaf, entry)


def prepare_input(command: ContinueAsNew, facts: RunFacts, *, in_branch: bool, cancelled: bool) -> str:
    """The input of the next pass as JSON.

    Raises DefinitionError where a run cannot go on, TypeError or CodecError for arguments that do not fit.
    """
    if cancelled:
        raise DefinitionError("the run is being cancelled: it does not go on as new")
    if in_branch:
        raise DefinitionError("ContinueAsNew stands inside a branch or scope; yield it from the handler itself")
    definition = facts.definition
    assert definition is not None
    try:
        arguments = definition.function.binder.bind(command.args, command.kwargs)
    except TypeError as error:
        raise TypeError(f"{facts.shown(command)} does not fit the signature of {definition!r}: {error}") from None
    return encode_input(definition, definition.name, arguments)
