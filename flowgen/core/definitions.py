"""A workflow or a task with its options, and a call of one: inert values for the registry, the commands and clients.

Nothing here runs a handler through the engine: calling a definition does just what calling its function does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from types import CodeType
from typing import Any, Final, Generic, Literal, ParamSpec, Self

import attrs
from typing_extensions import TypeIs, TypeVar

from flowgen.core.context import current_or_detached
from flowgen.core.cron import CronSpec
from flowgen.core.durations import Duration, as_timedelta
from flowgen.core.filters import Filter, fields_of, filter_text
from flowgen.core.functions import ContextKind, Flavour, Function, describe, stray_context
from flowgen.core.names import check_id, check_name, check_tags
from flowgen.core.retry import Retry
from flowgen.core.states import RunKind
from flowgen.core.windows import Window
from flowgen.errors import DefinitionError

__all__ = [
    "Call",
    "CallOptions",
    "Cron",
    "Definition",
    "DefinitionOptions",
    "On",
    "Task",
    "Workflow",
    "is_definition",
]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
T_co = TypeVar("T_co", covariant=True)

Determinism = Literal["warn", "strict"]
Durability = Literal["step", "checkpoint"]
"""When an outcome of a step is told to its handler: when it is committed, or before."""

defined_codes: dict[CodeType, str] = {}
"""The code of every handler that was defined, by which a flow that runs inline is known."""


@attrs.frozen
class Cron:
    """One cron trigger of a definition: an expression of 5 or 6 fields (seconds first), in an IANA zone.

    `args` are the arguments of the runs that it starts, by parameter name.
    """

    expression: str
    timezone: str = attrs.field(default="UTC", kw_only=True)
    args: Mapping[str, Any] = attrs.field(factory=dict[str, Any], kw_only=True)

    def __attrs_post_init__(self) -> None:
        CronSpec.parse(self.expression, self.timezone)


@attrs.frozen(init=False)
class On:
    """One event trigger of a definition: each event of this name that fits starts one run.

    `when` is a filter of the payload, as of `WaitEvent`. `fields`: the event is for it only if one of these has
    changed: stands in the list `changed` of the payload, as table triggers give it, or else in the payload itself.
    """

    event: str
    when: str | None
    """The stored form of the filter."""
    fields: tuple[str, ...] | None

    def __init__(self, event: str, when: Filter | None = None, fields: str | Iterable[str] | None = None) -> None:
        checked = check_name(event, "the name of an event")
        condition = filter_text(when, f"On({checked!r}, when=)")
        object.__setattr__(self, "event", checked)
        object.__setattr__(self, "when", condition)
        object.__setattr__(self, "fields", fields_of(fields, f"On({checked!r}, fields=)"))


def as_events(on: str | On | Iterable[str | On] | None) -> tuple[On, ...]:
    """One event trigger, several or none, as a tuple; a plain string is the short form."""
    if on is None:
        return ()
    given = tuple(on) if isinstance(on, Iterable) and not isinstance(on, str) else (on,)
    for each in given:
        if not isinstance(each, str | On):
            raise DefinitionError(f"on= takes the name of an event, an On, or several of them, not {each!r}")
    return tuple(On(each) if isinstance(each, str) else each for each in given)


def as_crons(cron: str | Cron | Iterable[str | Cron] | None) -> tuple[Cron, ...]:
    """One cron trigger, several or none, as a tuple; a plain string is the short form."""
    if cron is None:
        return ()
    several = (cron,) if isinstance(cron, str | Cron) or not isinstance(cron, Iterable) else tuple(cron)
    for each in several:
        if not isinstance(each, str | Cron):
            raise DefinitionError(f"cron= takes a cron expression, a Cron, or several of them, not {each!r}")
    return tuple(Cron(each) if isinstance(each, str) else each for each in several)


@attrs.frozen(kw_only=True)
class DefinitionOptions:
    """What `@task` and `@workflow` were told."""

    queue: str = "default"
    retry: Retry
    timeout: timedelta | None = None
    """Of a plain task: start to close, each attempt."""
    deadline: timedelta | None = None
    """Of a workflow's run, from its start."""
    priority: int = 0
    config: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    cron: tuple[Cron, ...] = ()
    on: tuple[On, ...] = ()
    window: tuple[Window, ...] = ()
    """When runs are worked at; none: at any time."""
    determinism: Determinism = "warn"
    durability: Durability = "step"


class Definition(Generic[P, R_co, T_co]):
    """A workflow or a task. P: parameters without the context; R: what calling gives; T: the outcome."""

    kind: RunKind
    __slots__ = ("__weakref__", "fn", "function", "name", "options")

    def __init__(self, fn: Callable[..., Any], name: str | None, options: DefinitionOptions) -> None:
        self.fn = fn
        self.function = _definable(fn, name, self.kind)
        self.name: str = check_name(name if name is not None else self.function.name, f"the name of a {self.kind}")
        self.options = options
        self._check_triggers()
        code = getattr(inspect.unwrap(fn), "__code__", None)
        if code is not None and self.is_handler:
            defined_codes[code] = self.name

    @property
    def is_handler(self) -> bool:
        """Whether the function yields commands; a plain task's function does not and is one step."""
        return self.kind is RunKind.WORKFLOW or self.function.flavour is Flavour.GENERATOR

    @property
    def location(self) -> str:
        return f"{self.function.file}:{self.function.line}"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Do what the function does; a context parameter is supplied."""
        if self.function.context is ContextKind.NONE:
            result: R_co = self.fn(*args, **kwargs)
        else:
            result = self.fn(current_or_detached(self.function.context is ContextKind.STEP), *args, **kwargs)
        return result

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call[T_co]:
        """This definition with arguments: inert. Raises TypeError when they do not fit the signature."""
        return Call(self, self.name, self.function.binder.bind(args, kwargs))

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name}>"

    def _check_triggers(self) -> None:
        for cron in self.options.cron:
            try:
                self.function.binder.bind((), dict(cron.args))
            except TypeError as error:
                raise DefinitionError(
                    f"{self.name}: its cron trigger {cron.expression!r} starts it with {dict(cron.args)!r}: {error}. "
                    "Give the arguments: cron=Cron(expression, args={...})"
                ) from None


def is_definition(value: object) -> TypeIs[Definition[..., Any, Any]]:
    """`isinstance` that keeps the type parameters."""
    return isinstance(value, Definition)


class Task(Definition[P, R_co, T_co]):
    """What `@task` makes."""

    __slots__ = ()
    kind = RunKind.TASK


class Workflow(Definition[P, R_co, T_co]):
    """What `@workflow` makes."""

    __slots__ = ()
    kind = RunKind.WORKFLOW


def _definable(fn: Callable[..., Any], name: str | None, kind: RunKind) -> Function:
    if isinstance(fn, type):
        raise DefinitionError(f"@{kind} on the class {fn.__qualname__}: decorate a function")
    if isinstance(fn, Definition):
        raise DefinitionError(f"@{kind} on {fn!r}, which is decorated already")
    if type(fn) in (staticmethod, classmethod):
        raise DefinitionError(f"@{kind} on a {type(fn).__name__}: decorate a function outside of a class")
    function = describe(fn)
    where = f"{function.qualname} ({function.file}:{function.line})"
    if function.name is None and name is None:
        raise DefinitionError(f"@{kind} on {where}: it has no name of its own, give it name=")
    if function.flavour is Flavour.ASYNC_GENERATOR:
        raise DefinitionError(
            f"@{kind} on the async generator {where}: a handler is a generator (def ... yield) or a coroutine "
            "(async def ... await)"
        )
    owner = function.qualname.rpartition(".")[0]
    first = next(iter(function.binder.parameters), "")
    if inspect.ismethod(fn) or (owner and not owner.endswith("<locals>") and first in ("self", "cls")):
        raise DefinitionError(f"@{kind} on the method {where}: decorate a function outside of a class")
    if kind is RunKind.WORKFLOW and function.flavour is Flavour.PLAIN:
        raise DefinitionError(
            f"@workflow on the plain function {where}: a workflow yields commands; make it a generator "
            "(yield Step(...)) or a coroutine (await Step(...)), or use @task"
        )
    if (stray := stray_context(function)) is not None:
        raise DefinitionError(
            f"@{kind} on {where}: {stray!r} is no parameter that is given the context: make it the first, annotated "
            "Context or StepContext and nothing else"
        )
    return function


@attrs.frozen(kw_only=True)
class CallOptions:
    """Options of a start. Durations are of the database's clock."""

    id: str | None = None
    queue: str | None = None
    priority: int | None = None
    delay: timedelta | None = None
    at: datetime | None = None
    deadline: timedelta | None = None
    tags: tuple[str, ...] = ()
    correlation_id: str | None = None


_NO_OPTIONS = CallOptions()


@attrs.frozen
class Call(Generic[T_co]):
    """A definition with its arguments and options: inert. `definition` is None for a call by name."""

    definition: Definition[..., Any, T_co] | None
    name: str
    arguments: Mapping[str, Any]
    """Bound arguments by parameter name, without defaults."""
    options: CallOptions = attrs.field(default=_NO_OPTIONS, eq=False, repr=False)

    def opts(
        self,
        *,
        id: str | None = None,
        queue: str | None = None,
        priority: int | None = None,
        delay: Duration | None = None,
        at: datetime | None = None,
        deadline: Duration | None = None,
        tags: Iterable[str] | None = None,
        correlation_id: str | None = None,
    ) -> Self:
        """A new call with these options added. Raises DefinitionError for a value that does not fit."""
        given: dict[str, Any] = {}
        if id is not None:
            given["id"] = check_id(id)
        if queue is not None:
            given["queue"] = check_name(queue, "a queue")
        if priority is not None:
            given["priority"] = check_priority(priority)
        if delay is not None:
            given["delay"] = as_timedelta(delay, what="delay")
        if at is not None:
            given["at"] = check_aware(at, "at")
        if deadline is not None:
            given["deadline"] = as_timedelta(deadline, what="deadline")
        if tags is not None:
            given["tags"] = check_tags(tags)
        if correlation_id is not None:
            given["correlation_id"] = check_id(correlation_id, "a correlation id")
        options = attrs.evolve(self.options, **given)
        if options.delay is not None and options.at is not None:
            raise DefinitionError("a call has delay= or at=, not both")
        return attrs.evolve(self, options=options)

    def __hash__(self) -> int:
        return hash((self.name, tuple(self.arguments)))


def check_priority(priority: object) -> int:
    """A priority: an int from -32768 to 32767, higher first. Raises DefinitionError."""
    if isinstance(priority, bool) or not isinstance(priority, int) or not -32768 <= priority <= 32767:
        raise DefinitionError(f"a priority must be an int from -32768 to 32767, not {priority!r}")
    return priority


_FIRST: Final = datetime(1, 1, 2, tzinfo=UTC)
_LAST: Final = datetime(9999, 12, 30, tzinfo=UTC)
"""In every time zone within the years that a datetime has: whoever reads the row may be in any."""


def check_aware(when: object, what: str) -> datetime:
    """An aware datetime of the years 1 to 9999. Raises DefinitionError for anything else."""
    if not isinstance(when, datetime) or when.tzinfo is None or when.utcoffset() is None:
        raise DefinitionError(f"{what} must be a timezone-aware datetime, not {when!r}: use datetime(..., tzinfo=UTC)")
    if not _FIRST <= when <= _LAST:
        raise DefinitionError(f"{what} is {when.isoformat()}: give a time from {_FIRST.date()} to {_LAST.date()}")
    return when
