"""The ports of a context: how a run reaches outside of itself, for a log line, an abort signal or a sign of life.

Only protocols, and what stands in for them where nobody listens: a plain call, a handler between two yields.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

__all__ = ["UNABORTED", "LogPort", "Signal", "TaskPort", "Unaborted", "no_log", "no_report"]


class Signal(Protocol):
    """Tells a function that nobody wants its result any more: cancel, timeout, shutdown or a lost lease."""

    @property
    def aborted(self) -> bool: ...
    @property
    def reason(self) -> str | None: ...
    def wait(self, timeout: float | None = None) -> bool:
        """Block until aborted, for at most `timeout` seconds; returns `aborted`."""
        ...

    def raise_if_aborted(self) -> None:
        """Raise `Cancelled` with the reason when aborted."""
        ...


class Unaborted:
    """The signal of what nobody can abort: a plain call, or a handler between two yields."""

    aborted = False
    reason: str | None = None

    def wait(self, timeout: float | None = None) -> bool:
        return False

    def raise_if_aborted(self) -> None:
        return None


UNABORTED = Unaborted()


class LogPort(Protocol):
    """Where a context's log lines go."""

    def __call__(self, level: str, message: str, fields: Mapping[str, Any], error: BaseException | None, /) -> None: ...


class TaskPort(Protocol):
    """Where a task's sign of life and progress go."""

    def __call__(self, report: Mapping[str, Any], /) -> None: ...


def no_log(level: str, message: str, fields: Mapping[str, Any], error: BaseException | None) -> None:
    """The log of a run that has none."""


def no_report(report: Mapping[str, Any]) -> None:
    """The report of a task that nobody watches."""
