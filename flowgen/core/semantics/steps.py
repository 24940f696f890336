"""Step and Transaction: call a function, keep its attempts, record its outcome once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import attrs

from flowgen.core import codec
from flowgen.core.branches import Ended, Leaf, Phase
from flowgen.core.commands import Choose, Step, Transaction
from flowgen.core.decision import FunctionCall, Raised, Result, Returned, TimedOut
from flowgen.core.entries import Entry, EntryKind, OutcomeKind
from flowgen.core.facts import RunFacts
from flowgen.core.failures import failure_from, failure_from_json, failure_to_json
from flowgen.core.history import CommandState
from flowgen.core.mistakes import no_result, of_function
from flowgen.core.retry import next_wait
from flowgen.core.semantics.asking import Asking, outcome
from flowgen.core.trees import ATOMS
from flowgen.errors import (
    CodecError,
    DefinitionError,
    Failure,
    OutcomeError,
    PermanentError,
    StepFailed,
    StepInterrupted,
    StepTimedOut,
)

__all__ = ["NEAR", "answer", "ask", "final", "is_permanent", "settle"]

NEAR = timedelta(seconds=5)
"""A wait for the next attempt that is shorter keeps the lease; a longer one hangs up."""


def ask(leaf: Leaf, command: Step[Any] | Transaction[Any], asking: Asking) -> None:
    state = asking.state
    attempt = state.attempts + 1
    not_before = state.not_before
    if command.options.at_most_once and state.started == attempt and state.started_before:
        _interrupted(leaf, attempt, asking)
        return
    # A call at most once is announced only when it can be made: a worker lost in the wait before it loses nothing.
    near = timedelta(0) if command.options.at_most_once else NEAR
    if not_before is not None and not_before - asking.now > near:
        asking.wait(leaf, not_before)
        return
    if command.options.at_most_once and state.started != attempt:
        asking.record(leaf, Entry(-1, EntryKind.STARTED, leaf.key, leaf.fingerprint, attempt=attempt))
        return
    leaf.phase = Phase.CALLING
    asking.decision.calls.append(FunctionCall(leaf.key, command, attempt, not_before))


def _interrupted(leaf: Leaf, attempt: int, asking: Asking) -> None:
    failure = Failure(
        "StepInterrupted",
        f"attempt {attempt} of {leaf.key} was started and its worker was lost: whether it took effect is not known, "
        "and at_most_once forbids another call",
    )
    asking.record(leaf, outcome(leaf, OutcomeKind.FAILURE, failure_to_json(failure), attempt=attempt))


def settle(leaf: Leaf, result: Result, state: CommandState, facts: RunFacts) -> Entry:
    """The entry of a call that ended: its outcome, or a failed attempt with the wait before the next one.

    A value or an error that raises when it is looked at is a failure for good.
    """
    command: Step[Any] | Transaction[Any] = leaf.command  # type: ignore[assignment]  # only these make calls
    attempt = state.attempts + 1
    try:
        if isinstance(result, Returned):
            value, annotation = result.value, command.function.result_type
            atom = type(value) in ATOMS
            if not atom and (mistake := no_result(value, f"the result of {leaf.key}")) is not None:
                return final(leaf, mistake, attempt)
            text = _encoded(leaf, value, annotation, facts.max_payload)
            if not atom and isinstance(value, Choose) and not isinstance(codec.decode(text, annotation), Choose):
                return final(leaf, _unannotated_choice(leaf), attempt)
            return Entry(
                -1, EntryKind.OUTCOME, leaf.key, leaf.fingerprint, OutcomeKind.VALUE, attempt, text, None, None,
                leaf.named,
            )  # fmt: skip
        error = of_function(result.error) if isinstance(result, Raised) else _timed_out(leaf, result)
        wait = next_wait(command.retry, error, attempt, f"{facts.uuid}/{leaf.key}")
        if wait is None:
            return final(leaf, error, attempt, timed_out=isinstance(result, TimedOut))
        text = failure_to_json(failure_from(error))
        return Entry(-1, EntryKind.ATTEMPT, leaf.key, leaf.fingerprint, attempt=attempt, value=text, delay=wait)
    except Exception as raised:  # a CodecError, or what a class of the author's raised
        return final(leaf, raised, attempt)


def _unannotated_choice(leaf: Leaf) -> DefinitionError:
    return DefinitionError(
        f"the result of {leaf.key} is a Choose, and its function does not say so: without the annotation -> Choose it "
        "would be stored as any other value, and choose nothing"
    )


def _encoded(leaf: Leaf, value: object, annotation: Any, limit: int) -> str:
    try:
        text = codec.encode(value, annotation)
    except CodecError:
        text = codec.encode(value, annotation, what=f"the result of {leaf.key}")  # the error that names it
    if len(text) * 4 > limit:  # a character has at most 4 bytes
        codec.check_size(text, what=f"the result of {leaf.key}", limit=limit)
    return text


def final(leaf: Leaf, error: BaseException, attempt: int, *, timed_out: bool = False) -> Entry:
    """The outcome of a call that failed for good."""
    failure = failure_from(error)
    if isinstance(error, PermanentError | CodecError | DefinitionError):
        failure = _permanent(failure)
    status = OutcomeKind.TIMEOUT if timed_out else OutcomeKind.FAILURE
    return outcome(leaf, status, failure_to_json(failure), attempt=attempt)


def _permanent(failure: Failure) -> Failure:
    return attrs.evolve(failure, details={**failure.details, "permanent": True})


def is_permanent(error: OutcomeError) -> bool:
    """Whether no policy may try again what this came from, whatever its attempts were."""
    return isinstance(error, StepInterrupted) or error.failure.details.get("permanent") is True


def _timed_out(leaf: Leaf, result: TimedOut) -> StepTimedOut:
    return StepTimedOut(f"{leaf.key} was still running after its timeout of {result.timeout.total_seconds():g} s")


def answer(leaf: Leaf, command: Step[Any] | Transaction[Any], entry: Entry) -> Ended:
    if entry.status == OutcomeKind.VALUE:
        text, annotation = entry.value or "null", command.function.result_type
        try:
            return Ended(codec.decode(text, annotation))
        except CodecError:
            return Ended(codec.decode(text, annotation, what=f"the result of {leaf.key}"))  # the error that names it
    failure = failure_from_json(entry.value or "null")
    attempts = entry.attempt or 1
    tried = f"{leaf.key} failed after {attempts} attempt{'s' if attempts != 1 else ''}: {failure}"
    if failure.type == "StepInterrupted":
        return Ended(error=StepInterrupted(failure.message, failure=failure, name=leaf.key, attempts=attempts))
    if entry.status == OutcomeKind.TIMEOUT:
        return Ended(error=StepTimedOut(tried, failure=failure, name=leaf.key, attempts=attempts))
    return Ended(error=StepFailed(tried, failure=failure, name=leaf.key, attempts=attempts))
