"""From what a test says to the entry that a worker would record: a value or an error of one command."""

from __future__ import annotations

import json
from typing import Any

from flowgen.core import codec
from flowgen.core.branches import Leaf
from flowgen.core.commands import (
    CompletionToken,
    Emit,
    Invoke,
    Now,
    Patch,
    Random,
    RunRef,
    Signal,
    Start,
    Step,
    Transaction,
    Uuid,
    Wait,
    WaitEvent,
    WaitSignal,
)
from flowgen.core.definitions import Definition
from flowgen.core.entries import Entry, OutcomeKind
from flowgen.core.failures import failure_from, failure_to_json
from flowgen.core.semantics import steps
from flowgen.core.semantics.asking import outcome
from flowgen.errors import ChildCancelled, ChildTimedOut, Failure, OutcomeError, StepTimedOut, WaitTimedOut

__all__ = ["child_type", "failed", "failure_of", "gave"]


def gave(leaf: Leaf, value: object) -> Entry:
    """The outcome of a command that gave `value`. Raises CodecError for a value that cannot be stored."""
    command: Any = leaf.command
    what = f"the result of {leaf.key}"
    match command:
        case Step() | Transaction():
            text = codec.encode(value, command.function.result_type, what=what)
        case Invoke():
            text = codec.encode(value, child_type(command.definition), what=what)
        case Wait():
            text = codec.encode(value, command.ref.result_type, what=what)
        case WaitEvent():
            text = codec.encode(value, what=f"the payload of {leaf.key}")
        case Emit():
            text = codec.encode(str(value), what=what)
        case WaitSignal():
            text = codec.encode(value, command.expected, what=f"the signal {command.name}")
        case CompletionToken():
            raise AssertionError(f"{command!r} makes its token itself: send() without a value")
        case Start():
            if not isinstance(value, RunRef):
                raise AssertionError(f"{command!r} gives a RunRef: send() makes one")
            text = json.dumps({"run_id": str(value.run_id), "id": value.id, "by": value.by})
        case Now() | Uuid() | Random() | Patch():
            text = codec.encode(value, what=what)
        case _:
            if value is not None:
                raise AssertionError(f"{command!r} gives None, not {value!r}")
            text = "null"
    return outcome(leaf, OutcomeKind.VALUE, text, attempt=1 if isinstance(command, Step | Transaction) else None)


def failed(leaf: Leaf, error: BaseException, attempt: int = 1) -> Entry:
    """The outcome of a command that failed for good. Raises AssertionError for one that cannot fail."""
    command: Any = leaf.command
    if isinstance(command, Step | Transaction):
        if not isinstance(error, OutcomeError):
            return steps.final(leaf, error, attempt)
        status = OutcomeKind.TIMEOUT if isinstance(error, StepTimedOut) else OutcomeKind.FAILURE
        return outcome(leaf, status, failure_to_json(error.failure), attempt=error.attempts or attempt)
    if isinstance(error, WaitTimedOut) and isinstance(command, Wait | WaitEvent | WaitSignal):
        return outcome(leaf, OutcomeKind.TIMEOUT, None)
    if not isinstance(command, Invoke | Wait | WaitSignal | Signal):
        raise AssertionError(f"{command!r} cannot fail; throw Cancelled to cancel the run")
    if isinstance(error, ChildTimedOut):
        return outcome(leaf, OutcomeKind.TIMEOUT, None)
    if isinstance(error, ChildCancelled):
        return outcome(leaf, OutcomeKind.CANCELLATION, codec.encode({"reason": str(error) or None}))
    return outcome(leaf, OutcomeKind.FAILURE, failure_to_json(failure_of(error)))


def failure_of(error: BaseException) -> Failure:
    """What is recorded of an error: of one that stands for a failure, that failure."""
    return error.failure if isinstance(error, OutcomeError) else failure_from(error)


def child_type(definition: Definition[..., Any, Any] | str) -> Any:
    """What a child's result is annotated as."""
    return Any if isinstance(definition, str) else definition.function.result_type
