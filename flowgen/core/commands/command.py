"""What every command shares: its spelling (`yield`, `yield from`, `await`), its identity, its options.

Nothing happens until a command is yielded, and a command never changes: `opts` gives a new one. The invariant: two
commands are equal if and only if their kind, target, the author's name and the bound arguments are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Coroutine, Generator
from typing import Any, ClassVar, Generic, Self, TypeAlias

import attrs
from typing_extensions import TypeVar

from flowgen.core import fingerprint
from flowgen.core.definitions import Definition
from flowgen.core.options import After, CommandOptions, JoinRule, When, common_options
from flowgen.errors import DefinitionError

__all__ = [
    "NO_OPTIONS",
    "Branch",
    "Command",
    "Compensation",
    "CompositeCommand",
    "Flow",
    "Typed",
    "given_compensation",
    "out_of_graph",
    "set_field",
    "shown_call",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

set_field = object.__setattr__
"""Sets a field of a frozen value under construction."""
NO_OPTIONS = CommandOptions()


class Typed:
    """Holds what is no field of a value: the type is known from the code and must not be stored with it."""

    __slots__ = ("result_type",)
    result_type: Any


class Command(Generic[T_co]):
    """What a handler yields. Yield it, `yield from` it or await it: the interpreter sees the same object."""

    __slots__ = ()
    kind: ClassVar[str]
    """One lower-case word; a part of the fingerprint."""
    stores: ClassVar[bool] = True
    """Whether there is something to check or to encode when it is yielded: see `semantics.prepare`."""
    undoes: ClassVar[bool] = False
    """Whether what succeeded in its flow is undone when that fails: see `Saga`."""
    listens: ClassVar[bool] = False
    """Whether it waits for events: its outcome has its place among them, and it is registered while it waits."""
    guards: ClassVar[bool] = False
    """Whether its answer may be that the history is past its place: see `flowgen.core.changes`."""
    options: CommandOptions
    """A field of each command; some have options of their own class."""

    def __iter__(self) -> Generator[Command[Any], Any, T_co]:
        got: T_co = yield self
        return got

    def __await__(self) -> Generator[Command[Any], Any, T_co]:
        got: T_co = yield self
        return got

    @property
    def target(self) -> str:
        """What the command acts on: a function's or definition's name; empty where there is none."""
        return ""

    @property
    def arguments(self) -> object:
        """The arguments in a form that JSON can show, bound to the signature where there is one."""
        return None

    @property
    def default_name(self) -> str:
        """The name that is numbered when the author gives none."""
        return self.target or self.kind

    @property
    def compensate(self) -> Any:
        """What undoes it: a command, or a function of the outcome that gives one; None: nothing does."""
        return None

    def opts(
        self,
        *,
        name: str | None = None,
        after: After | None = None,
        when: When | None = None,
        join: JoinRule | None = None,
    ) -> Self:
        """The same command with options.

        `name` replaces the automatic name and must be unique in its scope. The others are for a node of a Graph:
        `after` which nodes it runs, `when` says whether it does, `join` what must have come of the nodes before it.
        """
        return self._with(attrs.evolve(self.options, **common_options(name, after, when, join)))

    def _with(self, options: CommandOptions) -> Self:
        new = copy.copy(self)
        set_field(new, "options", options)
        return new

    def alone(self) -> Self:
        """The same command without what only its Graph needs."""
        return self._with(attrs.evolve(self.options, after=(), when=None, join=None))

    def identity(self) -> tuple[str, str, str | None, str]:
        """Kind, target, the author's name, and the hash of the arguments."""
        return self.kind, self.target, self.options.name, fingerprint.args_hash(self.arguments)

    def fingerprint(self) -> str:
        return f"{self.kind}:{self.target}:{fingerprint.args_hash(self.arguments)}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Command):
            return NotImplemented
        return self is other or self.identity() == other.identity()

    def __hash__(self) -> int:
        return hash(self.identity())

    def __repr__(self) -> str:
        name = self.options.name
        shown = f"{type(self).__name__}({', '.join(self._shown())})"
        return shown if name is None else f"{shown}.opts(name={name!r})"

    def _shown(self) -> list[str]:
        """What stands between the brackets of `repr`, as the author would write it."""
        return []


class CompositeCommand(Command[T_co]):
    """A command that is made from other commands and flows. It has no outcome of its own in the history."""

    __slots__ = ()

    @property
    def given(self) -> tuple[Any, ...]:
        """The commands and flows that its author made for it."""
        raise NotImplementedError


def out_of_graph(command: Command[Any]) -> DefinitionError:
    """The error for a command with options of a node that is none."""
    options = command.options
    given = [f"{name}=" for name in ("after", "when", "join") if getattr(options, name)]
    return DefinitionError(
        f"{command!r} has {' and '.join(given)}, which says how a node of a Graph runs, and is no node: "
        "yield Graph(...) with it and the commands before it, or leave it away"
    )


Flow: TypeAlias = Generator[Command[Any], Any, T]
"""What a generator handler returns: `def checkout(order_id: str) -> Flow[str]`."""
Branch: TypeAlias = Command[T] | Generator[Command[Any], Any, T] | Coroutine[Any, Any, T]
"""What a composite runs beside others: a command or a flow."""


Compensation: TypeAlias = Command[Any] | Callable[[T], Command[Any] | None]
"""What undoes a command: a command, or a function of the outcome that gives one; None: there is nothing to undo."""


def given_compensation(compensate: Any) -> Any:
    """A `compensate=` that can be one. Raises DefinitionError."""
    if compensate is None:
        return None
    if isinstance(compensate, CompositeCommand):
        if not all(isinstance(each, Command) for each in compensate.given):
            raise DefinitionError(
                "compensate= was given a flow, which can run once only: give a function that makes it, such as "
                "compensate=lambda outcome: Scope('undo', release(outcome))"
            )
    elif not isinstance(compensate, Command) and (isinstance(compensate, Definition) or not callable(compensate)):
        raise DefinitionError(
            f"compensate= takes a command, or a function of the outcome that gives one, not {compensate!r}: write "
            "compensate=Step(release, id), or compensate=lambda outcome: Step(release, outcome)"
        )
    return compensate  # pyright: ignore[reportUnknownVariableType] - its type is not known here


def shown_call(target: str, args: tuple[Any, ...], kwargs: tuple[tuple[str, Any], ...]) -> list[str]:
    """A call for `repr`: what is called and what it is given."""
    return [target, *(repr(arg) for arg in args), *(f"{key}={value!r}" for key, value in kwargs)]
