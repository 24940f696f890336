"""Outcomes made from those of branches, in the order of history. Composites record nothing themselves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowgen.core.branches import Ended, Part
from flowgen.core.commands import Gather, Scope
from flowgen.core.failures import failure_from
from flowgen.errors import OutcomeError

__all__ = ["Gathered", "Scoped", "item"]


class _AtOnce:
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

    __slots__ = ("_ends", "_failed", "_return_exceptions")

    def __init__(self, command: Gather[Any]) -> None:
        super().__init__([(place, str(place), branch) for place, branch in enumerate(command.branches)])
        self._return_exceptions = command.return_exceptions
        self._ends: list[Ended | None] = [None] * len(command.branches)
        self._failed: Ended | None = None

    def ended(self, position: int, end: Ended) -> bool:
        self._ends[position] = end
        if end.error is None or self._return_exceptions:
            return False
        self._failed = end
        return True

    def result(self) -> Ended:
        if self._failed is not None:
            return self._failed
        return Ended(tuple(item(end) for end in self._ends if end is not None))


class Scoped(_AtOnce):
    """The one branch's own end."""

    __slots__ = ("_end",)

    def __init__(self, command: Scope[Any]) -> None:
        super().__init__([(0, "", command.flow)])
        self._end = Ended()

    def ended(self, position: int, end: Ended) -> bool:
        self._end = end
        return False

    def result(self) -> Ended:
        return self._end


def item(end: Ended) -> object:
    """A branch's value, or its failure as a value."""
    if end.error is None:
        return end.value
    return end.error.failure if isinstance(end.error, OutcomeError) else failure_from(end.error)
