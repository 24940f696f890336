"""Graph: commands as nodes, each run as soon as those that it comes after have ended.

It never drives a node. The invariant: a Graph that could be made has no circle, and each name in it is one node's, so
that the place of a node in it, and what it may know of the others, are the same on every replay.
"""

from __future__ import annotations

import difflib
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, overload

import attrs
from typing_extensions import TypeVar

from flowgen.core.commands.calls import Step, Transaction
from flowgen.core.commands.children import Invoke
from flowgen.core.commands.command import NO_OPTIONS, Command, CompositeCommand, set_field
from flowgen.core.commands.composites import described
from flowgen.core.definitions import Definition
from flowgen.core.names import Named, step_name
from flowgen.core.options import CommandOptions, JoinRule
from flowgen.errors import DefinitionError, Failure

__all__ = ["Choose", "Graph", "GraphResult", "PlainFunction", "Skip", "Skipped"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_CALLS: Final = (Step, Transaction, Invoke)
"""Nodes that may also be named by what they call: what they come to is what that gives."""


@attrs.frozen(init=False)
class Choose:
    """What a node's function returns to choose between the nodes directly after it: the others are skipped.

    The function says so in its annotation: `def decide(order_id: str) -> Choose`. `Choose()` skips all of them.
    """

    chosen: tuple[str, ...]

    def __init__(self, *nodes: Named, chosen: Iterable[str] = ()) -> None:
        set_field(self, "chosen", (*map(step_name, nodes), *chosen))


class PlainFunction(Protocol[T_co]):
    """A function, and no definition: a definition says by itself what it comes to."""

    @property
    def __name__(self) -> str: ...
    def __call__(self, *args: Any, **kwargs: Any) -> T_co: ...


class GraphResult:
    """What the nodes of a Graph came to: the results by name, or by definition or function, typed.

    `in` and iteration are over the nodes that succeeded. Looking up another raises a KeyError that says why it has no
    result.
    """

    __slots__ = ("_called", "_values", "failed", "skipped")

    def __init__(
        self,
        values: Mapping[str, Any],
        skipped: Mapping[str, str],
        failed: Mapping[str, Failure],
        called: Mapping[str, str],
    ) -> None:
        self._values = values
        self.skipped = skipped
        """Why a node did not run, by its name."""
        self.failed = failed
        """How a node failed, by its name, where the Graph went on."""
        self._called = called

    @overload
    def __getitem__(self, node: Definition[..., Any, T]) -> T: ...
    @overload
    def __getitem__(self, node: PlainFunction[Coroutine[Any, Any, T]]) -> T: ...
    @overload
    def __getitem__(self, node: PlainFunction[T]) -> T: ...
    @overload
    def __getitem__(self, node: str) -> Any: ...
    def __getitem__(self, node: Any) -> Any:
        name = self._name(node)
        if name in self._values:
            return self._values[name]
        if name in self.skipped:
            raise KeyError(f"{name} was skipped: {self.skipped[name]}")
        if name in self.failed:
            raise KeyError(f"{name} failed: {self.failed[name]}")
        known = [*self._values, *self.skipped, *self.failed]
        raise KeyError(f"no node {name!r} is known here, only {', '.join(known) or 'nothing'}")

    def __contains__(self, node: object) -> bool:
        return self._name(node) in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def keys(self) -> list[str]:
        """The names of the nodes that succeeded, in the order in which they were given; so `dict(done)` works."""
        return list(self._values)

    def __repr__(self) -> str:
        return f"GraphResult({dict(self._values)!r}, skipped={self.skipped!r}, failed={self.failed!r})"

    def _name(self, node: object) -> str:
        name = step_name(node)
        known = name in self._values or name in self.skipped or name in self.failed
        return name if known else self._called.get(name, name)


@attrs.frozen(init=False, eq=False, repr=False)
class Graph(CompositeCommand[GraphResult]):
    """Nodes that run as soon as all that they come `after` have ended; a `GraphResult` of what they came to.

    Each node is a command with `.opts(after=, when=, join=)`. A node is skipped when `when` says no, when a `Choose`
    before it chose others, or when `join` is not met: "all_success" (the default), "all_done", or "any_success". A
    failure is rethrown after what is under way was cancelled, in the order of history, unless all nodes directly after
    it have another `join` than "all_success". Raises DefinitionError for a circle, an unknown name or one given twice.
    """

    nodes: tuple[Command[Any], ...]
    names: tuple[str, ...]
    """Of the nodes."""
    before: tuple[tuple[int, ...], ...]
    """The places of the nodes that each node comes directly after."""
    called: Mapping[str, str]
    """Names of nodes by what they call, where one node does."""
    options: CommandOptions
    kind = "graph"

    def __init__(self, *nodes: Command[Any]) -> None:
        names = _names(nodes)
        places = {name: place for place, name in enumerate(names)}
        called = _called(nodes, names)
        before: list[tuple[int, ...]] = []
        for name, node in zip(names, nodes, strict=True):
            options = node.options
            before.append(tuple(dict.fromkeys(_found(each, name, places, called) for each in options.after)))
            if options.join is not None and not options.after:
                raise DefinitionError(f"Graph: join= of {name} is about the nodes that it comes after: give it after=")
        _check_order(names, before)
        set_field(self, "nodes", nodes)
        set_field(self, "names", names)
        set_field(self, "before", tuple(before))
        set_field(self, "called", {each: found[0] for each, found in called.items() if len(found) == 1})
        set_field(self, "options", NO_OPTIONS)

    @property
    def given(self) -> tuple[Any, ...]:
        return self.nodes

    @property
    def arguments(self) -> object:
        return [
            [name, node.identity()[:3], node.arguments, [self.names[each] for each in before], self.join(place)]
            for place, (name, node, before) in enumerate(zip(self.names, self.nodes, self.before, strict=True))
        ]

    def join(self, place: int) -> JoinRule:
        """What must have come of the nodes before this one."""
        return self.nodes[place].options.join or "all_success"

    def ancestors(self, place: int) -> set[int]:
        """The places of all nodes that a node comes after, directly or not."""
        found: set[int] = set()
        left = list(self.before[place])
        while left:
            each = left.pop()
            if each not in found:
                found.add(each)
                left.extend(self.before[each])
        return found

    def find(self, name: str) -> int | None:
        """The place of the node of this name, or of the only one that calls what has it."""
        name = name if name in self.names else self.called.get(name, name)
        return self.names.index(name) if name in self.names else None

    def _shown(self) -> list[str]:
        shown: list[str] = []
        for node, before in zip(self.nodes, self.before, strict=True):
            more = [f"after={[self.names[each] for each in before]}"] * bool(before)
            more += [f"{key}={value!r}" for key in ("when", "join") if (value := getattr(node.options, key))]
            shown.append(f"{node!r}.opts({', '.join(more)})" if more else repr(node))
        return shown


@attrs.frozen
class Skipped:
    """Stands for the result of a node that did not run."""

    reason: str


@attrs.frozen(eq=False, repr=False)
class Skip(Command[Skipped]):
    """Yielded by a Graph in the place of a node that does not run, so that the reason is recorded."""

    node: str
    reason: str
    options: CommandOptions = attrs.field(default=NO_OPTIONS, init=False)
    kind = "skip"
    stores = False

    @property
    def target(self) -> str:
        return self.node

    @property
    def arguments(self) -> object:
        return self.reason

    def _shown(self) -> list[str]:
        return [repr(self.node), repr(self.reason)]


def _names(nodes: Sequence[object]) -> tuple[str, ...]:
    names: dict[str, Command[Any]] = {}
    for node in nodes:
        if not isinstance(node, Command):
            flow: Any = described(node, "Graph")
            node.close()  # type: ignore[attr-defined]  # a flow: what is none was refused by `described`
            raise DefinitionError(
                f"Graph was given the flow {flow!r}, which has no name: make it Scope('load', {flow.function}(...))"
            )
        name = node.options.name or node.default_name
        if name in names:
            raise DefinitionError(
                f"Graph: two nodes are named {name!r}, {names[name]!r} and {node!r}: give each .opts(name=)"
            )
        names[name] = node
    return tuple(names)


def _called(nodes: Sequence[Command[Any]], names: Sequence[str]) -> dict[str, list[str]]:
    called: dict[str, list[str]] = {}
    for name, node in zip(names, nodes, strict=True):
        if isinstance(node, _CALLS):
            called.setdefault(node.target, []).append(name)
    return called


def _found(name: str, of: str, places: Mapping[str, int], called: Mapping[str, Sequence[str]]) -> int:
    """The place of the node that the node `of` comes after. Raises DefinitionError."""
    if name in places:
        return places[name]
    found = called.get(name, ())
    if len(found) == 1:
        return places[found[0]]
    if found:
        raise DefinitionError(
            f"Graph: {of} comes after {name}, which several nodes call: name the one that is meant, {_list(found)}"
        )
    near = difflib.get_close_matches(name, places, 1)
    hint = f"is {near[0]!r} meant? " if near else ""
    raise DefinitionError(f"Graph: {of} comes after {name!r}, which is no node: {hint}Its nodes are {_list(places)}")


def _check_order(names: Sequence[str], before: Sequence[Sequence[int]]) -> None:
    """Raises DefinitionError for a circle."""
    after: list[list[int]] = [[] for _ in names]
    left = [len(each) for each in before]
    for place, each in enumerate(before):
        for other in each:
            after[other].append(place)
    free = [place for place, count in enumerate(left) if not count]
    for place in free:  # it grows
        for other in after[place]:
            left[other] -= 1
            if not left[other]:
                free.append(other)
    if len(free) == len(names):
        return
    place = next(place for place, count in enumerate(left) if count)
    path: list[int] = []
    while place not in path:
        path.append(place)
        place = next(other for other in before[place] if left[other])
    circle = [*path[path.index(place) :], place][::-1]
    shown = " -> ".join(names[each] for each in circle)
    raise DefinitionError(f"Graph: its nodes wait for each other in a circle, {shown}: take one after= away")


def _list(names: Iterable[str]) -> str:
    shown = [repr(name) for name in names]
    return ", ".join(shown[:20]) + ", ..." * (len(shown) > 20)
