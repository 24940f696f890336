"""The abort signal of a step's function, set from the event loop and read from any thread."""

from __future__ import annotations

import threading

from flowgen.errors import Cancelled

__all__ = ["AbortSignal"]


_lock = threading.Lock()
"""One for all signals: it is held for an instant, and a signal is made for each call."""


class AbortSignal:
    """`ctx.signal`. Aborted once, with the first reason."""

    __slots__ = ("_event", "reason")

    def __init__(self) -> None:
        self.reason: str | None = None
        self._event: threading.Event | None = None

    @property
    def aborted(self) -> bool:
        return self.reason is not None

    def abort(self, reason: str) -> None:
        """Tell the function that its result is not wanted: cancelled, timeout, shutdown or lost lease."""
        with _lock:
            if self.reason is None:
                self.reason = reason
            if self._event is not None:
                self._event.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Block until aborted, for at most `timeout` seconds; returns `aborted`."""
        with _lock:
            if self.reason is not None:
                return True
            if self._event is None:
                self._event = threading.Event()
        self._event.wait(timeout)
        return self.aborted

    def raise_if_aborted(self) -> None:
        """Raise `Cancelled` with the reason when aborted."""
        if self.reason is not None:
            raise Cancelled(self.reason)
