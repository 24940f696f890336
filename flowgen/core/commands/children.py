"""Commands about child runs: Invoke waits for one, Start does not, Wait waits later for what Start gave.

They never start a run themselves. The invariant: a child is named by its definition, or by the definition's name where
the code is elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Generic, Literal, ParamSpec, Self, overload
from uuid import UUID

import attrs
from typing_extensions import TypeVar

from flowgen.core.commands.command import Command, Compensation, Typed, given_compensation, set_field, shown_call
from flowgen.core.commands.tokens import Token
from flowgen.core.definitions import Definition, check_priority
from flowgen.core.durations import Duration
from flowgen.core.names import check_id, check_name, check_tags
from flowgen.core.options import After, ChildOptions, JoinRule, When, check_flag, child_options, common_options
from flowgen.errors import DefinitionError

__all__ = ["Invoke", "RunRef", "Start", "Wait"]

T = TypeVar("T")
P = ParamSpec("P")
T_co = TypeVar("T_co", covariant=True)

NO_CHILD_OPTIONS = ChildOptions()


@attrs.frozen(init=False)
class RunRef(Typed, Generic[T_co]):
    """A child run that was started; `Wait(ref)` gives its result, in the run that started it.

    May be an argument or a result like any value.
    """

    key: str
    """Of the Start command, inside its run."""
    run_id: UUID
    id: str
    name: str
    by: str | None = None
    """The run that started it, and `@` with the pass of that; None: whoever waits for it."""

    def __init__(
        self, key: str, run_id: UUID, id: str, name: str, result_type: Any = Any, by: str | None = None
    ) -> None:
        set_field(self, "key", key)
        set_field(self, "run_id", run_id)
        set_field(self, "id", id)
        set_field(self, "name", name)
        set_field(self, "by", by)
        set_field(self, "result_type", result_type)


class _Child(Command[T_co]):
    """Shared by Invoke and Start: a definition, or its name, and the arguments."""

    __slots__ = ()
    definition: Definition[..., Any, Any] | str
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    options: ChildOptions  # pyright: ignore[reportIncompatibleVariableOverride] - frozen

    def _init(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not isinstance(target, Definition | str):
            raise DefinitionError(
                f"{type(self).__name__} takes a @workflow, a @task or a definition's name, not {target!r}"
                + (": decorate it with @task or @workflow" if callable(target) else "")
            )
        set_field(self, "definition", target if isinstance(target, Definition) else check_name(target, "a definition"))
        set_field(self, "args", args)
        set_field(self, "kwargs", tuple(sorted(kwargs.items())) if kwargs else ())
        set_field(self, "options", NO_CHILD_OPTIONS)

    @property
    def target(self) -> str:
        return self.definition if isinstance(self.definition, str) else self.definition.name

    @property
    def arguments(self) -> object:
        if isinstance(self.definition, str):
            return dict(self.kwargs) if not self.args else [list(self.args), dict(self.kwargs)]
        return self.definition.function.binder.bind(self.args, dict(self.kwargs))

    def _shown(self) -> list[str]:
        return shown_call(self.target, self.args, self.kwargs)


@attrs.frozen(init=False, eq=False, repr=False)
class Invoke(_Child[T_co]):
    """A child run on its own queue; wait for it. Throws ChildFailed, ChildCancelled or ChildTimedOut."""

    definition: Definition[..., Any, Any] | str
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    options: ChildOptions
    kind = "invoke"

    @overload
    def __init__(self: Invoke[Any], target: str, /, *args: Any, **kwargs: Any) -> None: ...
    @overload
    def __init__(self: Invoke[T], target: Definition[P, Any, T], /, *args: P.args, **kwargs: P.kwargs) -> None: ...
    def __init__(self, target: Any, /, *args: Any, **kwargs: Any) -> None:
        self._init(target, args, kwargs)

    def opts(
        self,
        *,
        name: str | None = None,
        after: After | None = None,
        when: When | None = None,
        join: JoinRule | None = None,
        id: str | None = None,
        queue: str | None = None,
        priority: int | None = None,
        timeout: Duration | None = None,
        on_timeout: Literal["cancel", "abandon"] | None = None,
        tags: Iterable[str] | None = None,
        compensate: Compensation[T_co] | None = None,
    ) -> Self:
        """The same child with options. Past `timeout` the child is cancelled, or goes on with "abandon".

        `compensate`: see `Step.opts`.
        """
        given = _child_given(id, queue, priority, tags)
        if compensate is not None:
            given["compensate"] = given_compensation(compensate)
        common = common_options(name, after, when, join)
        return self._with(child_options(self.options, common, given, timeout, on_timeout))

    @property
    def compensate(self) -> Any:
        return self.options.compensate


@attrs.frozen(init=False, eq=False, repr=False)
class Start(_Child[RunRef[T_co]]):
    """A child run, not waited for; `Wait(ref)` waits later. `detached`: not cancelled or paused with its parent."""

    definition: Definition[..., Any, Any] | str
    args: tuple[Any, ...]
    kwargs: tuple[tuple[str, Any], ...]
    options: ChildOptions
    kind = "start"

    @overload
    def __init__(self: Start[Any], target: str, /, *args: Any, **kwargs: Any) -> None: ...
    @overload
    def __init__(self: Start[T], target: Definition[P, Any, T], /, *args: P.args, **kwargs: P.kwargs) -> None: ...
    def __init__(self, target: Any, /, *args: Any, **kwargs: Any) -> None:
        self._init(target, args, kwargs)

    def opts(
        self,
        *,
        name: str | None = None,
        after: After | None = None,
        when: When | None = None,
        join: JoinRule | None = None,
        id: str | None = None,
        queue: str | None = None,
        priority: int | None = None,
        detached: bool | None = None,
        tags: Iterable[str] | None = None,
    ) -> Self:
        """The same start with options."""
        given = _child_given(id, queue, priority, tags)
        if detached is not None:
            given["detached"] = check_flag(detached, "detached")
        return self._with(child_options(self.options, common_options(name, after, when, join), given, None, None))


def _child_given(id: str | None, queue: str | None, priority: int | None, tags: Iterable[str] | None) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if id is not None:
        given["id"] = check_id(id)
    if queue is not None:
        given["queue"] = check_name(queue, "a queue")
    if priority is not None:
        given["priority"] = check_priority(priority)
    if tags is not None:
        given["tags"] = check_tags(tags)
    return given


@attrs.frozen(init=False, eq=False, repr=False)
class Wait(Command[T_co]):
    """The result of a run that was started with Start, or the value with which a Token is completed.

    A token throws WaitFailed when it is failed, or when the value does not fit; WaitTimedOut after its timeout.
    """

    ref: RunRef[Any] | Token[Any]
    options: ChildOptions  # pyright: ignore[reportIncompatibleVariableOverride] - frozen
    kind = "wait"
    stores = False

    def __init__(self: Wait[T], ref: RunRef[T] | Token[T]) -> None:
        if not isinstance(ref, RunRef | Token):
            raise DefinitionError(
                f"Wait takes what `yield from Start(...)` or `yield from CompletionToken()` gave, not {ref!r}"
            )
        set_field(self, "ref", ref)
        set_field(self, "options", NO_CHILD_OPTIONS)

    @property
    def target(self) -> str:
        return self.ref.name if isinstance(self.ref, RunRef) else self.ref.key

    @property
    def arguments(self) -> object:
        return self.ref.key

    @property
    def default_name(self) -> str:
        # Waits are numbered by themselves: two for "token" and one for "token#2" have three keys.
        return f"wait:{self.target.rpartition('/')[2].partition('#')[0]}"

    def _shown(self) -> list[str]:
        return [repr(self.ref)]

    def opts(
        self,
        *,
        name: str | None = None,
        after: After | None = None,
        when: When | None = None,
        join: JoinRule | None = None,
        timeout: Duration | None = None,
        on_timeout: Literal["cancel", "abandon"] | None = None,
    ) -> Self:
        """The same wait with options; see `Invoke.opts`."""
        return self._with(child_options(self.options, common_options(name, after, when, join), {}, timeout, on_timeout))
