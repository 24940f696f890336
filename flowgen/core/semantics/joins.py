"""Gather and Scope: outcomes made from those of branches, in the order of history. They record nothing themselves."""

from __future__ import annotations

import attrs

from flowgen.core.branches import Ended
from flowgen.core.commands import Gather
from flowgen.core.failures import failure_from
from flowgen.errors import OutcomeError

__all__ = ["Gathered", "Scoped"]


@attrs.define
class Gathered:
    """All results in order, or the first failure."""

    return_exceptions: bool
    ends: list[Ended | None]
    failed: Ended | None = None

    @classmethod
    def of(cls, command: Gather[object]) -> Gathered:
        return cls(command.return_exceptions, [None] * len(command.branches))

    def ended(self, position: int, end: Ended) -> bool:
        self.ends[position] = end
        if end.error is None or self.return_exceptions:
            return False
        if self.failed is None:
            self.failed = end
        return True

    def result(self) -> Ended:
        if self.failed is not None:
            return self.failed
        return Ended(tuple(self._item(end) for end in self.ends if end is not None))

    def _item(self, end: Ended) -> object:
        if end.error is None:
            return end.value
        return end.error.failure if isinstance(end.error, OutcomeError) else failure_from(end.error)


@attrs.define
class Scoped:
    """The one branch's own end."""

    end: Ended = attrs.field(factory=Ended)

    def ended(self, position: int, end: Ended) -> bool:
        self.end = end
        return False

    def result(self) -> Ended:
        return self.end
