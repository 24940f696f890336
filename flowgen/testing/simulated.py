"""What a simulated run leaves, for the invariants of a test."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic
from uuid import UUID

import attrs
from typing_extensions import TypeVar

from flowgen.core.trace import Trace
from flowgen.errors import Failure

__all__ = ["Called", "Simulated"]

T_co = TypeVar("T_co", covariant=True, default=Any)


@attrs.frozen
class Called:
    """A call of a step's function that was begun."""

    run: str
    """Name of the definition of the run."""
    run_id: UUID
    key: str
    """Of the command in its run, such as "charge#2"."""
    name: str
    """Of the function or task."""
    args: tuple[Any, ...]
    attempt: int
    """From 1; one attempt is called again when its worker is lost."""
    place: tuple[int, int] = attrs.field(default=(0, 0), repr=False)
    """The segment, and how often the run was tried again: the same key in another place is another command."""
    claim: int = attrs.field(default=0, repr=False)
    """Of the run: another one is another owner."""


@attrs.frozen(kw_only=True)
class Simulated(Generic[T_co]):
    """How one schedule ended."""

    trace: Trace[T_co]
    """Of the run that was called."""
    runs: tuple[Trace[Any], ...]
    """Of every run, children too, in the order of their start."""
    calls: tuple[Called, ...]
    """Every function that was called, in the order in which the calls were begun."""
    committed: tuple[str, ...]
    """Keys of the Transactions that took effect, in their order."""
    ended_at: datetime
    """In virtual time."""
    schedule: tuple[int, ...] = ()
    story: str = attrs.field(default="", repr=False)
    """What happened, a line for each event; only of a schedule that was given."""

    @property
    def status(self) -> str:
        """completed, failed or cancelled."""
        return self.trace.status or ""

    @property
    def result(self) -> T_co:
        """What the run returned; None unless it completed."""
        return self.trace.result

    @property
    def failure(self) -> Failure | None:
        """What the run failed with; None when it did not fail."""
        return self.trace.failure

    def count(self, function: object) -> int:
        """How often a function was called: a task, a function or its name."""
        name = function if isinstance(function, str) else getattr(function, "name", None)
        name = name or getattr(function, "__name__", None)
        return sum(each.name == name for each in self.calls)
