"""Outcomes made from those of branches, in the order of history. Composites record nothing themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flowgen.core.branches import Ended, Part
from flowgen.core.commands import Gather, Map, Race, Saga, Scope, Winner
from flowgen.core.failures import failure_from
from flowgen.errors import OutcomeError

__all__ = ["Gathered", "Joining", "Mapped", "Raced", "Scoped", "item"]


class Joining:
    """What most joins have in common: branches know nothing of each other."""

    __slots__ = ()

    def goes_on(self, position: int) -> bool:
        return False

    def sight(self, position: int) -> tuple[str, Callable[[], Mapping[str, str | None]]] | None:
        return None


class _AtOnce(Joining):
    """Opens every branch at once."""

    __slots__ = ("_parts",)
    needs_all = True

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts

    def ready(self) -> Sequence[Part]:
        parts, self._parts = self._parts, ()
        return parts


class Gathered(_AtOnce):
    """All results in order, or the first failure."""

    __slots__ = ("_failed", "_results", "_return_exceptions")

    def __init__(self, command: Gather[Any]) -> None:
        super().__init__([(place, str(place), branch) for place, branch in enumerate(command.branches)])
        self._return_exceptions = command.return_exceptions
        self._results: list[object] = [None] * len(command.branches)
        self._failed: Ended | None = None

    def ended(self, position: int, end: Ended) -> bool:
        if end.error is not None and not self._return_exceptions:
            self._failed = end
            return True
        self._results[position] = item(end)
        return False

    def result(self) -> Ended:
        return self._failed if self._failed is not None else Ended(tuple(self._results))


class Scoped(_AtOnce):
    """The one branch's own end."""

    __slots__ = ("_end",)

    def __init__(self, command: Saga[Any] | Scope[Any]) -> None:
        super().__init__([(0, "", command.flow)])
        self._end = Ended()

    def ended(self, position: int, end: Ended) -> bool:
        self._end = end
        return False

    def result(self) -> Ended:
        return self._end


class Raced(_AtOnce):
    """The first end."""

    __slots__ = ("_end", "_tags")
    needs_all = False

    def __init__(self, command: Race[Any]) -> None:
        super().__init__([(place, tag, branch) for place, (tag, branch) in enumerate(command.branches.items())])
        self._tags = list(command.branches)
        self._end = Ended()

    def ended(self, position: int, end: Ended) -> bool:
        self._end = end if end.error is not None else Ended(Winner(self._tags[position], end.value))
        return True

    def result(self) -> Ended:
        return self._end


class Mapped(Joining):
    """All results in order, or the first failure; an item is opened when there is room for it."""

    __slots__ = ("_command", "_failed", "_next", "_results", "_room")

    def __init__(self, command: Map[Any]) -> None:
        self._command = command
        self._next = 0
        self._room = command.limit
        self._results: list[object] = [None] * len(command.items)
        self._failed: Ended | None = None

    @property
    def needs_all(self) -> bool:
        return self._next == len(self._results)

    def ready(self) -> Sequence[Part]:
        parts: list[Part] = []
        while self._room and self._next < len(self._results):
            parts.append((self._next, str(self._next), self._branch(self._next)))
            self._next += 1
            self._room -= 1
        return parts

    def _branch(self, place: int) -> Any:
        try:
            return self._command.branch(place)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a function that does not take the item
            return Ended(error=error)

    def ended(self, position: int, end: Ended) -> bool:
        self._room += 1
        if end.error is not None and self._command.on_failure == "fail_fast":
            self._failed = end
            return True
        self._results[position] = item(end)
        return False

    def result(self) -> Ended:
        return self._failed if self._failed is not None else Ended(self._results)


def item(end: Ended) -> object:
    """A branch's value, or its failure as a value."""
    if end.error is None:
        return end.value
    return end.error.failure if isinstance(end.error, OutcomeError) else failure_from(end.error)
