"""Commands made of branches: Gather runs them at once, Scope gives one flow a name of its own.

They never drive a branch. The invariant: a flow inside compares by its function and the arguments that it was called
with, seen when the composite is made, so that a finished flow still equals a fresh one.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import CodeType, FrameType
from typing import Any, Literal, Self, overload

import attrs
from typing_extensions import TypeVar

from flowgen.core.commands.command import NO_OPTIONS, Branch, Command, CompositeCommand, out_of_graph, set_field
from flowgen.core.context import Context
from flowgen.core.definitions import Definition
from flowgen.core.names import check_name
from flowgen.core.options import After, CommandOptions, JoinRule, When
from flowgen.errors import DefinitionError, Failure

__all__ = ["FlowCall", "Gather", "Saga", "Scope", "described"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")


@attrs.frozen
class FlowCall:
    """A generator or coroutine as a value: its function and what it was called with."""

    function: str
    arguments: Mapping[str, Any]

    def identity(self) -> tuple[str, Mapping[str, Any]]:
        return self.function, self.arguments

    def __repr__(self) -> str:
        return f"{self.function}({', '.join(f'{name}={value!r}' for name, value in self.arguments.items())})"


@attrs.frozen(init=False, eq=False, repr=False)
class Gather(CompositeCommand[T_co]):
    """All branches at once; a tuple of their results in order.

    The first failure, in the order of history, is rethrown after the other branches were cancelled. With
    `return_exceptions=True` nothing is cancelled and an item is a result or a `Failure`.
    """

    branches: tuple[Any, ...]
    flows: tuple[Command[Any] | FlowCall, ...]
    """The branches as they are compared."""
    return_exceptions: bool
    options: CommandOptions
    kind = "gather"

    # one failure ends it
    @overload
    def __init__(self: Gather[tuple[()]], /, *, return_exceptions: bool = False) -> None: ...
    @overload
    def __init__(self: Gather[tuple[A]], a: Branch[A], /, *, return_exceptions: Literal[False] = False) -> None: ...
    @overload
    def __init__(
        self: Gather[tuple[A, B]], a: Branch[A], b: Branch[B], /, *, return_exceptions: Literal[False] = False
    ) -> None: ...
    @overload
    def __init__(
        self: Gather[tuple[A, B, C]],
        a: Branch[A],
        b: Branch[B],
        c: Branch[C],
        /,
        *,
        return_exceptions: Literal[False] = False,
    ) -> None: ...
    @overload
    def __init__(
        self: Gather[tuple[A, B, C, D]],
        a: Branch[A],
        b: Branch[B],
        c: Branch[C],
        d: Branch[D],
        /,
        *,
        return_exceptions: Literal[False] = False,
    ) -> None: ...
    @overload
    def __init__(
        self: Gather[tuple[A, ...]],
        a: Branch[A],
        b: Branch[A],
        c: Branch[A],
        d: Branch[A],
        e: Branch[A],
        /,
        *more: Branch[A],
        return_exceptions: Literal[False] = False,
    ) -> None: ...
    @overload
    def __init__(self: Gather[tuple[A | Failure]], a: Branch[A], /, *, return_exceptions: Literal[True]) -> None: ...
    @overload
    def __init__(
        self: Gather[tuple[A | Failure, B | Failure]],
        a: Branch[A],
        b: Branch[B],
        /,
        *,
        return_exceptions: Literal[True],
    ) -> None: ...
    @overload
    def __init__(
        self: Gather[tuple[A | Failure, B | Failure, C | Failure]],
        a: Branch[A],
        b: Branch[B],
        c: Branch[C],
        /,
        *,
        return_exceptions: Literal[True],
    ) -> None: ...
    @overload
    def __init__(
        self: Gather[tuple[A | Failure, ...]],
        a: Branch[A],
        b: Branch[A],
        c: Branch[A],
        d: Branch[A],
        /,
        *more: Branch[A],
        return_exceptions: Literal[True],
    ) -> None: ...
    def __init__(self, *branches: Any, return_exceptions: bool = False) -> None:
        set_field(self, "branches", branches)
        set_field(self, "flows", tuple(described(branch, "Gather") for branch in branches))
        set_field(self, "return_exceptions", return_exceptions)
        set_field(self, "options", NO_OPTIONS)

    @property
    def given(self) -> tuple[Any, ...]:
        return self.branches

    @property
    def arguments(self) -> object:
        return [self.return_exceptions, *(flow.identity() for flow in self.flows)]

    def _shown(self) -> list[str]:
        return [repr(flow) for flow in self.flows] + ["return_exceptions=True"] * self.return_exceptions


@attrs.frozen(init=False, eq=False, repr=False)
class Scope(CompositeCommand[T_co]):
    """A named scope around a flow: prefixes the keys inside, so that helpers are reusable and spellings can mix."""

    name: str
    flow: Any
    inside: Command[Any] | FlowCall
    """The flow as it is compared."""
    options: CommandOptions
    kind = "scope"

    def __init__(self: Scope[T], name: str, flow: Branch[T], /) -> None:
        set_field(self, "name", check_name(name, "the name of a scope"))
        set_field(self, "flow", flow)
        set_field(self, "inside", described(flow, "Scope"))
        set_field(self, "options", CommandOptions(name=name))

    @property
    def given(self) -> tuple[Any, ...]:
        return (self.flow,)

    @property
    def arguments(self) -> object:
        return self.inside.identity()

    @property
    def default_name(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Scope({self.name!r}, {self.inside!r})"

    def opts(
        self,
        *,
        name: str | None = None,
        after: After | None = None,
        when: When | None = None,
        join: JoinRule | None = None,
    ) -> Self:
        if name is not None:
            raise DefinitionError("a Scope has its name as its first argument")
        return super().opts(after=after, when=when, join=join)


@attrs.frozen(init=False, eq=False, repr=False)
class Saga(CompositeCommand[T_co]):
    """A flow whose steps are undone when it fails, by their `compensate=`, before its failure is rethrown.

    So a handler may undo a part and go on. It is a scope of its own for keys.
    """

    flow: Any
    inside: Command[Any] | FlowCall
    """The flow as it is compared."""
    options: CommandOptions
    kind = "saga"
    undoes = True

    def __init__(self: Saga[T], flow: Branch[T], /) -> None:
        set_field(self, "flow", flow)
        set_field(self, "inside", described(flow, "Saga"))
        set_field(self, "options", NO_OPTIONS)

    @property
    def given(self) -> tuple[Any, ...]:
        return (self.flow,)

    @property
    def arguments(self) -> object:
        return self.inside.identity()

    def _shown(self) -> list[str]:
        return [repr(self.inside)]


def described(branch: object, where: str) -> Command[Any] | FlowCall:
    """A branch as it is compared. Raises DefinitionError for what cannot be one."""
    if isinstance(branch, Command):
        if branch.options.after or branch.options.when or branch.options.join:
            raise out_of_graph(branch)  # pyright: ignore[reportUnknownArgumentType] - as below
        return branch  # pyright: ignore[reportUnknownVariableType] - its type is not known here
    if inspect.isgenerator(branch):
        return _flow_call(branch.gi_code, branch.gi_frame)
    if inspect.iscoroutine(branch):
        return _flow_call(branch.cr_code, branch.cr_frame)
    hint = "a command, or a flow such as helper(1)"
    if isinstance(branch, Definition):
        hint = f"Invoke({branch.name}, ...) for a child run, or {branch.name}(...) for a flow here"
    elif callable(branch):
        hint = f"Step({getattr(branch, '__name__', 'fn')}, ...), or a flow such as helper(1)"
    elif isinstance(branch, list | tuple | set):
        hint = f"the items one by one: {where}(*branches)"
    raise DefinitionError(f"{where} was given {branch!r}: give it {hint}")


def _flow_call(code: CodeType, frame: FrameType | None) -> FlowCall:
    if frame is None:
        raise DefinitionError(f"the flow {code.co_qualname} has ended: a flow runs once, call its function again")
    count = code.co_argcount + code.co_kwonlyargcount
    count += bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    known = frame.f_locals
    arguments = {name: known[name] for name in code.co_varnames[:count] if name in known}
    return FlowCall(
        code.co_qualname, {name: value for name, value in arguments.items() if not isinstance(value, Context)}
    )
