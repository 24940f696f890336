"""What each command means against a history: one module per family, one `match` over the closed union.

`ask` says what to do about a command that has no outcome yet; `answer` makes of a recorded outcome what the handler is
sent; `open_composite` gives the branches of a command that is made from other commands. The loop in
`flowgen.core.interpreter` knows no command by name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, assert_never

from flowgen.core import codec
from flowgen.core.branches import Ended, Join, Leaf
from flowgen.core.commands import (
    AnyCommand,
    Checkpoint,
    Command,
    CompletionToken,
    ContinueAsNew,
    Emit,
    Gather,
    Graph,
    Invoke,
    Map,
    Now,
    Patch,
    Race,
    Random,
    Saga,
    Schedule,
    Scope,
    SetDeadline,
    SetProgress,
    Signal,
    Skip,
    Sleep,
    Start,
    Step,
    Transaction,
    Unschedule,
    Uuid,
    Wait,
    WaitEvent,
    WaitSignal,
)
from flowgen.core.commands.command import CompositeCommand
from flowgen.core.entries import Entry
from flowgen.core.facts import RunFacts
from flowgen.core.semantics import (
    checkpoints,
    children,
    events,
    going,
    graphs,
    joins,
    schedules,
    signals,
    sleeps,
    steps,
    tokens,
)
from flowgen.core.semantics import facts as recorded
from flowgen.core.semantics.asking import Asking
from flowgen.errors import DefinitionError

__all__ = ["SKIPPABLE", "UNKEPT", "Asking", "answer", "ask", "open_composite", "prepare"]

SKIPPABLE = frozenset({"now", "uuid", "random", "patch"})
"""Kinds whose recorded outcomes may be left unasked by changed code."""

UNKEPT = frozenset({"skip"})
"""Kinds that a new segment decides anew, whatever an earlier one kept under the same name."""


def ask(leaf: Leaf, asking: Asking) -> None:
    """Say in `asking.decision` what a command without an outcome needs now, and set the leaf's phase."""
    command: AnyCommand = leaf.command  # type: ignore[assignment]  # the interpreter lets no other class in
    match command:
        case Step() | Transaction():
            steps.ask(leaf, command, asking)
        case Sleep():
            sleeps.ask(leaf, command, asking)
        case Invoke() | Start() | Wait():
            children.ask(leaf, command, asking)
        case WaitSignal() | Signal():
            signals.ask(leaf, command, asking)
        case CompletionToken():
            tokens.ask(leaf, command, asking)
        case Checkpoint():
            checkpoints.ask(leaf, command, asking)
        case Schedule() | Unschedule():
            schedules.ask(leaf, command, asking)
        case Emit() | WaitEvent():
            events.ask(leaf, command, asking)
        case Now() | Uuid() | Random() | Patch():
            recorded.ask(leaf, command, asking)
        case Skip():
            graphs.ask_skip(leaf, command, asking)
        case SetProgress() | SetDeadline() | ContinueAsNew():
            going.ask(leaf, command, asking)
        case Gather() | Map() | Race() | Graph() | Saga() | Scope():
            raise AssertionError(f"{command.kind} is made from branches")
        case _:
            assert_never(command)


def prepare(
    command: Command[Any],
    facts: RunFacts,
    *,
    in_branch: bool,
    prologue: int | None,
    cancelled: bool,
    heard: Mapping[str, datetime] | None,
    lost: Collection[str],
) -> str | None:
    """Refuse a command that cannot be carried out here, and encode what it stores, while its author can be shown where.

    Raises DefinitionError, CodecError or TypeError.
    """
    match command:
        case Checkpoint():
            text = checkpoints.prepare(
                command, in_branch=in_branch, prologue=prologue, cancelled=cancelled, heard=heard, lost=lost
            )
        case Invoke() | Start():
            text = children.prepare(command, facts)
        case Schedule():
            text = schedules.prepare(command)
        case WaitSignal() | Signal():
            text = signals.prepare(command)
        case CompletionToken():
            return tokens.prepare(command)
        case Emit():
            text = events.prepare(command)
        case SetProgress():
            text = going.prepare(command)
        case ContinueAsNew():
            text = going.prepare_input(command, facts, in_branch=in_branch, cancelled=cancelled)
        case _:
            raise DefinitionError(f"{command!r} is a command of your own: flowgen knows what its own commands mean")
    if text is not None:
        what = f"what {command.kind} {command.target}".rstrip()
        codec.check_size(text, what=f"{what} stores", limit=facts.max_payload)
    return text


def answer(leaf: Leaf, entry: Entry) -> Ended:
    """What the handler is sent for a recorded outcome. Raises CodecError when a value no longer fits its type."""
    command: AnyCommand = leaf.command  # type: ignore[assignment]  # as in `ask`
    match command:
        case Step() | Transaction():
            return steps.answer(leaf, command, entry)
        case Sleep() | Checkpoint() | Schedule() | Unschedule() | SetProgress() | SetDeadline():
            return Ended()
        case WaitSignal() | Signal():
            return signals.answer(leaf, command, entry)
        case CompletionToken():
            return tokens.answer(leaf, command, entry)
        case Invoke() | Wait():
            return children.answer(leaf, command, entry)
        case Start():
            return children.answer_start(leaf, command, entry)
        case Emit() | WaitEvent():
            return events.answer(leaf, command, entry)
        case Now() | Uuid() | Random():
            return recorded.answer(leaf, command, entry)
        case Skip():
            return graphs.answer_skip(leaf, entry)
        case Patch():
            return recorded.answer_patch(leaf, entry)
        case Gather() | Map() | Race() | Graph() | Saga() | Scope():
            raise AssertionError(f"{command.kind} has no outcome of its own")
        case ContinueAsNew():
            raise AssertionError("the handler that yields it is sent nothing")
        case _:
            assert_never(command)


def open_composite(command: CompositeCommand[Any]) -> Join:
    """Which branches a composite opens when, and how it joins them. Raises DefinitionError."""
    match command:
        case Gather():
            return joins.Gathered(command)
        case Map():
            return joins.Mapped(command)
        case Race():
            return joins.Raced(command)
        case Graph():
            return graphs.Graphed(command)
        case Saga() | Scope():
            return joins.Scoped(command)
        case _:
            raise DefinitionError(f"{command!r} is a command of your own: flowgen knows what its own commands mean")
