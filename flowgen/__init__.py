"""Durable execution for Python on PostgreSQL."""

from typing import TYPE_CHECKING, Any

from flowgen.app import App, app, call, task, workflow
from flowgen.client import AsyncRun, HistoryItem, Page, Run, connect, connect_async
from flowgen.core.codec import Codec
from flowgen.core.commands import (
    AnyCommand,
    Branch,
    Checkpoint,
    Choose,
    Command,
    Flow,
    Gather,
    Graph,
    GraphResult,
    Invoke,
    Map,
    Now,
    Race,
    Random,
    RunRef,
    Saga,
    Schedule,
    Scope,
    Sleep,
    Start,
    Step,
    Transaction,
    Unschedule,
    Uuid,
    Wait,
    Winner,
)
from flowgen.core.context import Context, StepContext, Trigger, current
from flowgen.core.definitions import Call, Cron, Definition, Task, Workflow
from flowgen.core.durations import Duration
from flowgen.core.forgotten import ForgottenYieldWarning
from flowgen.core.retry import Retry
from flowgen.core.settings import Settings
from flowgen.core.states import RunKind, RunStatus
from flowgen.core.trace import Trace
from flowgen.errors import (
    Cancelled,
    ChildCancelled,
    ChildFailed,
    ChildTimedOut,
    CodecError,
    DatabaseError,
    DefinitionError,
    Divergence,
    DuplicateNameError,
    Failure,
    FlowgenError,
    LeaseLost,
    NotRegisteredError,
    OutcomeError,
    PermanentError,
    RetryableError,
    RunCancelled,
    RunExists,
    RunFailed,
    RunNotFinished,
    RunNotFound,
    SchemaError,
    StepFailed,
    StepInterrupted,
    StepTimedOut,
    WaitTimedOut,
)
from flowgen.worker.starting import run, worker

if TYPE_CHECKING:
    from flowgen.client import AsyncClient, Client, RunQuery, Why

__all__ = [
    "AnyCommand",
    "App",
    "AsyncClient",
    "AsyncRun",
    "Branch",
    "Call",
    "Cancelled",
    "Checkpoint",
    "ChildCancelled",
    "ChildFailed",
    "ChildTimedOut",
    "Choose",
    "Client",
    "Codec",
    "CodecError",
    "Command",
    "Context",
    "Cron",
    "DatabaseError",
    "Definition",
    "DefinitionError",
    "Divergence",
    "DuplicateNameError",
    "Duration",
    "Failure",
    "Flow",
    "FlowgenError",
    "ForgottenYieldWarning",
    "Gather",
    "Graph",
    "GraphResult",
    "HistoryItem",
    "Invoke",
    "LeaseLost",
    "Map",
    "NotRegisteredError",
    "Now",
    "OutcomeError",
    "Page",
    "PermanentError",
    "Race",
    "Random",
    "Retry",
    "RetryableError",
    "Run",
    "RunCancelled",
    "RunExists",
    "RunFailed",
    "RunKind",
    "RunNotFinished",
    "RunNotFound",
    "RunQuery",
    "RunRef",
    "RunStatus",
    "Saga",
    "Schedule",
    "SchemaError",
    "Scope",
    "Settings",
    "Sleep",
    "Start",
    "Step",
    "StepContext",
    "StepFailed",
    "StepInterrupted",
    "StepTimedOut",
    "Task",
    "Trace",
    "Transaction",
    "Trigger",
    "Unschedule",
    "Uuid",
    "Wait",
    "WaitTimedOut",
    "Why",
    "Winner",
    "Workflow",
    "app",
    "call",
    "connect",
    "connect_async",
    "current",
    "run",
    "task",
    "worker",
    "workflow",
]


def __getattr__(name: str) -> Any:
    """Names that bring psycopg are looked up when they are used."""
    from flowgen import client

    if name in client.__all__:
        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
