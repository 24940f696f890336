"""Graph: which nodes run when, which are skipped and why, and what that comes to.

A skip is recorded as the outcome of a `Skip` under the node's key: a decision that a replay takes otherwise is a
divergence, as a step that became another is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from flowgen.core import codec
from flowgen.core.branches import Ended, Leaf, Part
from flowgen.core.commands import Choose, Command, Graph, GraphResult, Skip, Winner
from flowgen.core.commands.command import CompositeCommand
from flowgen.core.commands.graphs import Skipped
from flowgen.core.entries import Entry, OutcomeKind
from flowgen.core.frames import dispose
from flowgen.core.semantics.asking import Asking, outcome
from flowgen.core.semantics.joins import Joining, item
from flowgen.errors import DefinitionError

__all__ = ["Graphed", "answer_skip", "ask_skip"]


class Graphed(Joining):
    """Opens a node when all that it comes after have ended."""

    __slots__ = ("_after", "_command", "_ends", "_failed", "_free", "_left", "_opened")

    def __init__(self, command: Graph) -> None:
        self._command = command
        self._after: list[list[int]] = [[] for _ in command.nodes]
        self._left = [len(before) for before in command.before]
        for place, before in enumerate(command.before):
            for other in before:
                self._after[other].append(place)
        self._free = [place for place, count in enumerate(self._left) if not count]
        self._opened = 0
        self._ends: dict[int, Ended] = {}
        self._failed: Ended | None = None

    @property
    def needs_all(self) -> bool:
        return self._opened == len(self._left)

    def ready(self) -> Sequence[Part]:
        free, self._free = self._free, []
        self._opened += len(free)
        return [(place, "", self._opening(place)) for place in free]

    def _opening(self, place: int) -> Command[Any] | Ended:
        node = self._command.nodes[place]
        try:
            reason = self._why_not(place)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # of the author's `when`
            error.add_note(f"in when= of the node {self._command.names[place]}")
            dispose(node)
            return Ended(error=error)
        if reason is not None:
            dispose(node)
            return Skip(self._command.names[place], reason)
        return node.alone()

    def _why_not(self, place: int) -> str | None:
        """Why a node, of which all before it have ended, does not run."""
        command, ends = self._command, self._ends
        before = command.before[place]
        for other in before:
            value = ends[other].value
            if isinstance(value, Choose) and place not in self._chosen(value):
                chosen = ", ".join(value.chosen) or "none"
                return f"{command.names[other]} chose {chosen}"
        missing = [other for other in before if not _succeeded(ends[other])]
        rule = command.join(place)
        if rule == "all_success" and missing:
            how = "failed" if ends[missing[0]].error is not None else "was skipped"
            return f"{command.names[missing[0]]} {how}"
        if rule == "any_success" and len(missing) == len(before):
            return f"none of {', '.join(command.names[other] for other in before)} succeeded"
        when = command.nodes[place].options.when
        if when is not None and not when(self._results(command.ancestors(place))):
            name = getattr(when, "__name__", "<lambda>")
            return "when= said no" if name == "<lambda>" else f"{name} said no"
        return None

    def _chosen(self, choice: Choose) -> set[int | None]:
        return {self._command.find(name) for name in choice.chosen}

    def ended(self, position: int, end: Ended) -> bool:
        self._ends[position] = end
        after = self._after[position]
        if end.error is not None:
            if not self.goes_on(position):
                self._failed = end
        elif isinstance(end.value, Choose):
            wrong = [name for name in end.value.chosen if self._command.find(name) not in after]
            if wrong:
                names = self._command.names
                known = ", ".join(names[each] for each in after) or "no node"
                said = f"{names[position]} chose {wrong[0]!r}, which does not come directly after it: {known} does"
                self._failed = Ended(error=DefinitionError(f"Graph: {said}"))
        if self._failed is not None:
            return True
        for other in after:
            self._left[other] -= 1
            if not self._left[other]:
                self._free.append(other)
        return False

    def goes_on(self, position: int) -> bool:
        after = self._after[position]
        return bool(after) and all(self._command.join(each) != "all_success" for each in after)

    def result(self) -> Ended:
        return self._failed if self._failed is not None else Ended(self._results(self._ends))

    def _results(self, of: Any) -> GraphResult:
        """What is known of these nodes, in the order in which they were given."""
        values: dict[str, Any] = {}
        skipped: dict[str, str] = {}
        failed: dict[str, Any] = {}
        for place, name in enumerate(self._command.names):
            if place not in of:
                continue
            end = self._ends[place]
            if end.error is not None:
                failed[name] = item(end)
            elif isinstance(end.value, Skipped):
                skipped[name] = end.value.reason
            else:
                values[name] = end.value
        return GraphResult(values, skipped, failed, self._command.called)

    def sight(self, position: int) -> tuple[str, Callable[[], Mapping[str, str | None]]]:
        return self._command.names[position], partial(self._known, position)

    def _known(self, position: int) -> Mapping[str, str | None]:
        command = self._command
        return {command.names[each]: self._text(each) for each in command.ancestors(position)}

    def _text(self, place: int) -> str | None:
        """The JSON of what a node made of branches came to, which is recorded nowhere; None for all others."""
        end = self._ends[place]
        if not isinstance(self._command.nodes[place], CompositeCommand) or not _succeeded(end):
            return None
        return codec.encode(_plain(end.value), what=f"the result of {self._command.names[place]}")


def _plain(value: Any) -> Any:
    """What branches came to, with the results of the Graphs in it by the names of their nodes."""
    if isinstance(value, GraphResult):
        return {name: _plain(value[name]) for name in value}
    if isinstance(value, Winner):
        return Winner(value.tag, _plain(value.value))
    if type(value) in (list, tuple):
        return [_plain(each) for each in value]
    return value


def _succeeded(end: Ended) -> bool:
    return end.error is None and not isinstance(end.value, Skipped)


def ask_skip(leaf: Leaf, command: Skip, asking: Asking) -> None:
    asking.record(leaf, outcome(leaf, OutcomeKind.SKIPPED, codec.encode(command.reason, str)))


def answer_skip(leaf: Leaf, entry: Entry) -> Ended:
    return Ended(Skipped(codec.decode(entry.value or '""', str, what=f"why {leaf.key} was skipped")))
