"""The types of `@task` and `@workflow`: what a checker makes of a decorated function.

Only protocols, no code that runs. A first parameter annotated `Context` or `StepContext` is left out of the parameters;
one annotated `Any` or `object` is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from flowgen.core.commands import Flow
from flowgen.core.context import Context, StepContext
from flowgen.core.definitions import Cron, Determinism, Durability, On, Task, Workflow
from flowgen.core.durations import Duration
from flowgen.core.retry import Retry
from flowgen.core.windows import Window

__all__ = ["TaskDecorator", "TaskEntry", "WorkflowDecorator", "WorkflowEntry"]

P = ParamSpec("P")
T = TypeVar("T")


class _Anything:
    """No value has this type: what accepts it accepts anything, so it is not a context parameter."""


class TaskDecorator(Protocol):
    """What `@task(...)` gives: it takes the function."""

    @overload
    def __call__(
        self, fn: Callable[Concatenate[_Anything, P], Coroutine[Any, Any, T]], /
    ) -> Task[Concatenate[Any, P], Coroutine[Any, Any, T], T]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[_Anything, P], Flow[T]], /
    ) -> Task[Concatenate[Any, P], Flow[T], T]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[_Anything, P], T], /) -> Task[Concatenate[Any, P], T, T]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[StepContext[Any], P], Coroutine[Any, Any, T]], /
    ) -> Task[P, Coroutine[Any, Any, T], T]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[StepContext[Any], P], Flow[T]], /) -> Task[P, Flow[T], T]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[StepContext[Any], P], T], /) -> Task[P, T, T]: ...
    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, T]], /) -> Task[P, Coroutine[Any, Any, T], T]: ...
    @overload
    def __call__(self, fn: Callable[P, Flow[T]], /) -> Task[P, Flow[T], T]: ...
    @overload
    def __call__(self, fn: Callable[P, T], /) -> Task[P, T, T]: ...


class TaskEntry(Protocol):
    """`@task`, with options or without."""

    @overload
    def __call__(
        self, fn: Callable[Concatenate[_Anything, P], Coroutine[Any, Any, T]], /
    ) -> Task[Concatenate[Any, P], Coroutine[Any, Any, T], T]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[_Anything, P], Flow[T]], /
    ) -> Task[Concatenate[Any, P], Flow[T], T]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[_Anything, P], T], /) -> Task[Concatenate[Any, P], T, T]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[StepContext[Any], P], Coroutine[Any, Any, T]], /
    ) -> Task[P, Coroutine[Any, Any, T], T]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[StepContext[Any], P], Flow[T]], /) -> Task[P, Flow[T], T]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[StepContext[Any], P], T], /) -> Task[P, T, T]: ...
    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, T]], /) -> Task[P, Coroutine[Any, Any, T], T]: ...
    @overload
    def __call__(self, fn: Callable[P, Flow[T]], /) -> Task[P, Flow[T], T]: ...
    @overload
    def __call__(self, fn: Callable[P, T], /) -> Task[P, T, T]: ...
    @overload
    def __call__(
        self,
        *,
        name: str | None = None,
        queue: str = "default",
        retry: Retry | None = None,
        timeout: Duration | None = None,
        config: Mapping[str, Any] | None = None,
        priority: int = 0,
        cron: str | Cron | Iterable[str | Cron] | None = None,
        on: str | On | Iterable[str | On] | None = None,
        window: str | Window | Iterable[str | Window] | None = None,
    ) -> TaskDecorator:
        """See `App.task`."""


class WorkflowDecorator(Protocol):
    """What `@workflow(...)` gives: it takes the handler."""

    @overload
    def __call__(
        self, fn: Callable[Concatenate[_Anything, P], Coroutine[Any, Any, T]], /
    ) -> Workflow[Concatenate[Any, P], Coroutine[Any, Any, T], T]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[_Anything, P], Flow[T]], /
    ) -> Workflow[Concatenate[Any, P], Flow[T], T]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[Context[Any], P], Coroutine[Any, Any, T]], /
    ) -> Workflow[P, Coroutine[Any, Any, T], T]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[Context[Any], P], Flow[T]], /) -> Workflow[P, Flow[T], T]: ...
    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, T]], /) -> Workflow[P, Coroutine[Any, Any, T], T]: ...
    @overload
    def __call__(self, fn: Callable[P, Flow[T]], /) -> Workflow[P, Flow[T], T]: ...


class WorkflowEntry(Protocol):
    """`@workflow`, with options or without."""

    @overload
    def __call__(
        self, fn: Callable[Concatenate[_Anything, P], Coroutine[Any, Any, T]], /
    ) -> Workflow[Concatenate[Any, P], Coroutine[Any, Any, T], T]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[_Anything, P], Flow[T]], /
    ) -> Workflow[Concatenate[Any, P], Flow[T], T]: ...
    @overload
    def __call__(
        self, fn: Callable[Concatenate[Context[Any], P], Coroutine[Any, Any, T]], /
    ) -> Workflow[P, Coroutine[Any, Any, T], T]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[Context[Any], P], Flow[T]], /) -> Workflow[P, Flow[T], T]: ...
    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, T]], /) -> Workflow[P, Coroutine[Any, Any, T], T]: ...
    @overload
    def __call__(self, fn: Callable[P, Flow[T]], /) -> Workflow[P, Flow[T], T]: ...
    @overload
    def __call__(
        self,
        *,
        name: str | None = None,
        queue: str = "default",
        retry: Retry | None = None,
        deadline: Duration | None = None,
        config: Mapping[str, Any] | None = None,
        priority: int = 0,
        cron: str | Cron | Iterable[str | Cron] | None = None,
        on: str | On | Iterable[str | On] | None = None,
        window: str | Window | Iterable[str | Window] | None = None,
        determinism: Determinism = "warn",
        durability: Durability = "step",
    ) -> WorkflowDecorator:
        """See `App.workflow`."""
