"""Commands that open many branches: Map over items, Race between tagged ones.

They never drive a branch. The invariant: the place of an item or a tag names its branch, never the order of events.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Final, Generic, Literal, Self, overload

import attrs
from typing_extensions import TypeVar

from flowgen.core.commands.calls import Step
from flowgen.core.commands.children import Invoke
from flowgen.core.commands.command import NO_OPTIONS, Branch, Command, CompositeCommand, Flow, set_field
from flowgen.core.commands.composites import FlowCall, described
from flowgen.core.definitions import is_definition
from flowgen.core.durations import Duration
from flowgen.core.functions import Flavour, Function, describe
from flowgen.core.names import check_name
from flowgen.core.options import After, CommandOptions, JoinRule, When, common_options
from flowgen.core.retry import Retry
from flowgen.errors import DefinitionError, Failure

__all__ = ["IN_FLIGHT", "Map", "Race", "Winner"]

T = TypeVar("T")
X = TypeVar("X")
T_co = TypeVar("T_co", covariant=True)

IN_FLIGHT: Final = 1000
"""Items of a Map without a `limit` that are under way at a time."""

OnFailure = Literal["fail_fast", "continue"]


@attrs.frozen(init=False, eq=False, repr=False)
class Map(CompositeCommand[T_co]):
    """`fn(item)` for each item, at most `limit` at a time (default 1,000); a list of the results in the items' order.

    A workflow or generator task makes a child run of each item, a generator function a flow here, everything else a
    step; with `.opts(as_runs=True)` a plain task makes runs too. With `on_failure="fail_fast"` the first failure, in
    the order of history, is rethrown after what is under way was cancelled; with "continue" an item of the list is a
    result or a `Failure`. No items: an empty list at once.
    """

    fn: Callable[..., Any]
    items: tuple[Any, ...]
    limit: int
    on_failure: OnFailure
    as_runs: bool
    function: Function
    options: CommandOptions
    each: Mapping[str, Any]
    """Options of the command that is made of an item."""
    kind = "map"

    @overload
    def __init__(
        self: Map[list[T]],
        fn: Callable[[X], Flow[T]],
        items: Iterable[X],
        /,
        *,
        limit: int | None = None,
        on_failure: Literal["fail_fast"] = "fail_fast",
    ) -> None: ...
    @overload
    def __init__(
        self: Map[list[T]],
        fn: Callable[[X], Coroutine[Any, Any, T]],
        items: Iterable[X],
        /,
        *,
        limit: int | None = None,
        on_failure: Literal["fail_fast"] = "fail_fast",
    ) -> None: ...
    @overload
    def __init__(
        self: Map[list[T]],
        fn: Callable[[X], T],
        items: Iterable[X],
        /,
        *,
        limit: int | None = None,
        on_failure: Literal["fail_fast"] = "fail_fast",
    ) -> None: ...
    @overload
    def __init__(
        self: Map[list[T | Failure]],
        fn: Callable[[X], Flow[T]],
        items: Iterable[X],
        /,
        *,
        limit: int | None = None,
        on_failure: Literal["continue"],
    ) -> None: ...
    @overload
    def __init__(
        self: Map[list[T | Failure]],
        fn: Callable[[X], Coroutine[Any, Any, T]],
        items: Iterable[X],
        /,
        *,
        limit: int | None = None,
        on_failure: Literal["continue"],
    ) -> None: ...
    @overload
    def __init__(
        self: Map[list[T | Failure]],
        fn: Callable[[X], T],
        items: Iterable[X],
        /,
        *,
        limit: int | None = None,
        on_failure: Literal["continue"],
    ) -> None: ...
    def __init__(
        self, fn: Any, items: Any, /, *, limit: int | None = None, on_failure: OnFailure = "fail_fast"
    ) -> None:
        given: Any = items
        if isinstance(items, str | bytes | Mapping) or not isinstance(items, Iterable):
            raise DefinitionError(f"Map takes a function and its items, such as Map(load, [1, 2, 3]), not {items!r}")
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise DefinitionError(f"Map(limit=) is how many items may be under way at a time: 1 or more, not {limit!r}")
        if on_failure not in ("fail_fast", "continue"):
            raise DefinitionError(f'Map(on_failure=) is "fail_fast" or "continue", not {on_failure!r}')
        set_field(self, "fn", fn)
        set_field(self, "items", tuple(given))
        set_field(self, "limit", IN_FLIGHT if limit is None else limit)
        set_field(self, "on_failure", on_failure)
        set_field(self, "as_runs", is_definition(fn) and fn.is_handler)
        set_field(self, "function", fn.function if is_definition(fn) else describe(fn))
        set_field(self, "options", NO_OPTIONS)
        set_field(self, "each", {})
        if not self.is_flow and not self.as_runs:
            Step(fn)  # refuses what is no step
            if not self.target:
                raise DefinitionError(f"Map of {fn!r}: its items are known by a function's name; write it with def")

    @property
    def is_flow(self) -> bool:
        """Whether an item is a flow of this run: `fn` is a generator function without a decorator."""
        return not is_definition(self.fn) and self.function.flavour is Flavour.GENERATOR

    @property
    def given(self) -> tuple[Any, ...]:
        return ()

    @property
    def target(self) -> str:
        return self.fn.name if is_definition(self.fn) else self.function.name or ""

    @property
    def default_name(self) -> str:
        return "map"

    @property
    def arguments(self) -> object:
        return [self.on_failure, self.as_runs, list(self.items)]

    def branch(self, place: int) -> Any:
        """The command or flow of an item. Raises what a flow's function raises for arguments that do not fit."""
        item = self.items[place]
        if self.is_flow:
            return self.fn(item)
        command: Any = Invoke[Any](self.fn, item) if is_definition(self.fn) and self.as_runs else Step(self.fn, item)
        return command.opts(**self.each) if self.each else command

    def opts(
        self,
        *,
        name: str | None = None,
        after: After | None = None,
        when: When | None = None,
        join: JoinRule | None = None,
        as_runs: bool | None = None,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        at_most_once: bool | None = None,
        config: Mapping[str, Any] | None = None,
        queue: str | None = None,
        priority: int | None = None,
        tags: Iterable[str] | None = None,
    ) -> Self:
        """The same with options: those of `Step.opts` when items are steps, of `Invoke.opts` when they are runs.

        `as_runs` makes a child run of each item of a plain task.
        """
        given = {"retry": retry, "timeout": timeout, "at_most_once": at_most_once, "config": config, "queue": queue,
                 "priority": priority, "tags": tags}  # fmt: skip
        each = {**self.each, **{option: value for option, value in given.items() if value is not None}}
        new = self._with(attrs.evolve(self.options, **common_options(name, after, when, join)))
        if as_runs is not None:
            if as_runs and not is_definition(self.fn):
                raise DefinitionError(f"Map({self.target}).opts(as_runs=True): only a @task or @workflow makes runs")
            if not as_runs and is_definition(self.fn) and self.fn.is_handler:
                raise DefinitionError(f"Map({self.target}).opts(as_runs=False): what yields commands is a run")
            set_field(new, "as_runs", as_runs)
        step_only, run_only = {"retry", "at_most_once", "config"}, {"queue", "priority", "tags"}
        refused = set(each) if new.is_flow else set(each) & (step_only if new.as_runs else run_only)
        if refused:
            sort = "flows" if new.is_flow else "runs" if new.as_runs else "steps"
            raise DefinitionError(f"Map({self.target}): its items are {sort}, {min(refused)}= does not fit")
        set_field(new, "each", each)
        if each and new.items:
            new.branch(0)  # refuses values that do not fit
        return new

    def _shown(self) -> list[str]:
        shown = [self.target or repr(self.fn), repr(list(self.items[:5])) + "..." * (len(self.items) > 5)]
        if self.limit != IN_FLIGHT:
            shown.append(f"limit={self.limit}")
        return shown + [f"on_failure={self.on_failure!r}"] * (self.on_failure != "fail_fast")


@attrs.frozen
class Winner(Generic[T_co]):
    """Which branch of a Race was the first to end, and its result."""

    tag: str
    value: T_co


@attrs.frozen(init=False, eq=False, repr=False)
class Race(CompositeCommand[Winner[T_co]]):
    """The first branch to end, in the order of history, is the outcome; the others are cancelled.

    Its result comes as `Winner(tag, value)`; its failure is rethrown.
    """

    branches: Mapping[str, Any]
    flows: tuple[Command[Any] | FlowCall, ...]
    """The branches as they are compared."""
    options: CommandOptions
    kind = "race"

    def __init__(self: Race[T], **branches: Branch[T]) -> None:
        if not branches:
            raise DefinitionError(
                "Race needs a branch that can win: Race(paid=WaitSignal('paid'), late=Sleep(hours=1))"
            )
        for tag in branches:
            check_name(tag, "the tag of a branch")
        set_field(self, "branches", branches)
        set_field(self, "flows", tuple(described(branch, "Race") for branch in branches.values()))
        set_field(self, "options", NO_OPTIONS)

    @property
    def given(self) -> tuple[Any, ...]:
        return tuple(self.branches.values())

    @property
    def arguments(self) -> object:
        return [[tag, flow.identity()] for tag, flow in zip(self.branches, self.flows, strict=True)]

    def _shown(self) -> list[str]:
        return [f"{tag}={flow!r}" for tag, flow in zip(self.branches, self.flows, strict=True)]
