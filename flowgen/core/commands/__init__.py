"""What a handler may yield: inert, frozen, comparable values. Nothing happens until one is yielded.

A command's identity is its kind, its target, the name that its author gave and the arguments bound to the signature;
the other options stand in `.options` and take no part in `==` and `hash`. Meanings live in `flowgen.core.semantics`.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from flowgen.core.commands.calls import Step, Transaction
from flowgen.core.commands.changes import Patch
from flowgen.core.commands.checkpoint import Checkpoint
from flowgen.core.commands.children import Invoke, RunRef, Start, Wait
from flowgen.core.commands.command import Branch, Command, Flow
from flowgen.core.commands.composites import Gather, Saga, Scope
from flowgen.core.commands.events import Emit, WaitEvent
from flowgen.core.commands.facts import Now, Random, Uuid
from flowgen.core.commands.fanout import Map, Race, Winner
from flowgen.core.commands.going import ContinueAsNew, SetDeadline, SetProgress
from flowgen.core.commands.graphs import Choose, Graph, GraphResult, Skip
from flowgen.core.commands.schedules import Schedule, Unschedule
from flowgen.core.commands.signals import Signal, WaitSignal
from flowgen.core.commands.timing import Sleep
from flowgen.core.commands.tokens import CompletionToken, Token

__all__ = [
    "AnyCommand",
    "Branch",
    "Checkpoint",
    "Choose",
    "Command",
    "CompletionToken",
    "ContinueAsNew",
    "Emit",
    "Flow",
    "Gather",
    "Graph",
    "GraphResult",
    "Invoke",
    "Map",
    "Now",
    "Patch",
    "Race",
    "Random",
    "RunRef",
    "Saga",
    "Schedule",
    "Scope",
    "SetDeadline",
    "SetProgress",
    "Signal",
    "Skip",
    "Sleep",
    "Start",
    "Step",
    "Token",
    "Transaction",
    "Unschedule",
    "Uuid",
    "Wait",
    "WaitEvent",
    "WaitSignal",
    "Winner",
]

AnyCommand: TypeAlias = (
    Step[Any]
    | Transaction[Any]
    | Sleep
    | Invoke[Any]
    | Start[Any]
    | Wait[Any]
    | Checkpoint
    | Schedule
    | Unschedule
    | WaitSignal[Any]
    | Signal
    | CompletionToken[Any]
    | Emit
    | WaitEvent
    | Gather[Any]
    | Map[Any]
    | Race[Any]
    | Graph
    | Skip
    | Saga[Any]
    | Scope[Any]
    | Now
    | Uuid
    | Random
    | Patch
    | SetProgress
    | SetDeadline
    | ContinueAsNew
)
"""Every command that there is: a `match` over it ends in `assert_never`."""
