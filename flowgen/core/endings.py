"""What a run comes to: its handler's end, its deadline, a retry, and the orders of an operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import attrs
from typing_extensions import TypeIs

from flowgen.core import codec
from flowgen.core.branches import Ended
from flowgen.core.context import RunFacts
from flowgen.core.decision import Cancelled, Completed, Decision, Failed, Finish, Parked, Restarted
from flowgen.core.definitions import Definition
from flowgen.core.driver import Driver
from flowgen.core.entries import Entry, EntryKind, Message, MessageKind
from flowgen.core.failures import failure_from, failure_from_json, failure_to_json
from flowgen.core.functions import Flavour
from flowgen.core.history import set_aside_value
from flowgen.core.mistakes import no_output
from flowgen.core.retry import next_wait
from flowgen.core.semantics.steps import is_permanent
from flowgen.core.trees import ATOMS
from flowgen.errors import CodecError, Failure, OutcomeError, StepFailed

__all__ = [
    "Ending",
    "cancellation_to_json",
    "closed",
    "closing_entry",
    "finished",
    "is_undone",
    "obey",
    "overdue",
    "set_aside",
]


@attrs.define(eq=False)
class Ending:
    """Whose end it is."""

    definition: Definition[..., Any, Any]
    facts: RunFacts
    driver: Driver


def finished(ending: Ending, end: Ended) -> Finish:
    """What the handler's end makes of the run."""
    definition = ending.definition
    if ending.driver.cancelled:
        return Cancelled(ending.driver.cancel_reason)
    if end.error is None:
        if type(end.value) not in ATOMS:
            mistake = no_output(end.value, awaits=definition.function.flavour is Flavour.ASYNC)
            if mistake is not None:
                return Failed(failure_from(mistake))
        try:
            output = codec.encode(end.value, definition.function.result_type, what="the result")
            if codec.check_size(output, what="the result", limit=ending.facts.max_payload):
                ending.driver.warnings.append(codec.size_warning(output, "the result"))
            return Completed(output)
        except CodecError as refused:
            return Failed(failure_from(refused))
    error = end.error
    failure = failure_from(error)
    if isinstance(error, OutcomeError):
        cause = error.failure
        if isinstance(error, StepFailed) and not definition.is_handler:
            return Failed(cause)
        told = {"type": cause.type, "message": cause.message}
        failure = Failure(failure.type, failure.message, failure.traceback, {"cause": told})
        if is_permanent(error):
            return Failed(failure)
    if not definition.is_handler:
        return Failed(failure)
    return Failed(failure, next_wait(definition.options.retry, error, ending.facts.attempt, str(ending.facts.uuid)))


def overdue(ending: Ending, deadline: datetime) -> Finish:
    """What a deadline makes of a run that has not ended."""
    if ending.driver.cancelled:
        return Cancelled(ending.driver.cancel_reason)
    message = f"{ending.definition.name} was not finished at its deadline {deadline.isoformat()}"
    return Failed(Failure("RunTimedOut", message))


def is_undone(finish: Finish | None) -> TypeIs[Failed | Cancelled]:
    """Whether what a run did is undone when it comes to this."""
    return isinstance(finish, Cancelled) or (isinstance(finish, Failed) and finish.retry_after is None)


def closing_entry(finish: Failed | Cancelled) -> Entry:
    """The entry after which what the run did is undone, before it comes to `finish`."""
    if isinstance(finish, Cancelled):
        value = codec.encode({"cancelled": finish.reason})
    else:
        value = f'{{"failed":{failure_to_json(finish.failure)}}}'
    return Entry(-1, EntryKind.ENDING, "", value=value)


def closed(entry: Entry, not_undone: Sequence[Mapping[str, Any]]) -> Failed | Cancelled:
    """What the run comes to now that everything is undone, as that entry says; `not_undone` is what could not be."""
    said = codec.decode(entry.value or "{}", what="the end of the run")
    if "failed" not in said:
        return Cancelled(said.get("cancelled"), tuple(not_undone))
    failure = failure_from_json(said["failed"])
    if not_undone:
        failure = attrs.evolve(failure, details={**failure.details, "not_undone": list(not_undone)})
    return Failed(failure)


def cancellation_to_json(finish: Cancelled) -> str:
    """What a cancelled run has as its error."""
    not_undone = {"not_undone": list(finish.not_undone)} if finish.not_undone else {}
    return codec.encode({"reason": finish.reason, **not_undone})


def obey(
    ending: Ending,
    order: Message,
    finish: Finish | None,
    decision: Decision,
    undelivered: Sequence[Entry],
    next_index: int,
) -> Finish | None:
    """Carry out what a client or an operator asked for; what the run comes to then."""
    said = codec.decode(order.payload) or {}
    if order.kind == MessageKind.ACCEPT:
        if not isinstance(finish, Parked):
            return finish
        who, why = str(said.get("by") or "operator"), str(said.get("reason") or "accepted")
        set_aside(decision, [entry.index for entry in undelivered], why, who)
        # Nobody will ask for them: the code that goes on makes children of its own.
        made = [entry for entry in undelivered if entry.kind == EntryKind.CHILD]
        decision.cancel_children = [
            *decision.cancel_children,
            *(UUID(codec.decode(entry.value or '""')) for entry in made),
        ]
        return Restarted()
    who = str(said.get("who") or "client")
    if isinstance(finish, Completed | Cancelled):
        return finish
    if said.get("from_scratch"):
        set_aside(decision, [], "retry from scratch", who, below=next_index)
        ending.driver.cut_all()
        return Restarted()
    if isinstance(finish, Failed):
        set_aside(decision, ending.driver.last_failed, "retry", who)
        return Restarted()
    return finish


def set_aside(decision: Decision, indexes: Sequence[int], why: str, who: str, *, below: int = 0) -> None:
    """Record that these entries, and all below `below`, answer no longer."""
    if indexes or below:
        value = set_aside_value(indexes, why, who, below=below)
        # Named, so that it is kept when the segment is closed: it may be about the prologue.
        decision.entries.append(Entry(-1, EntryKind.SET_ASIDE, "", value=value, named=True))
