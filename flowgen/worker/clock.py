"""The clocks of a worker: the only file of this room that reads one.

All time that decides anything is the database's. `DatabaseClock` estimates it from the last answer of the server and
the monotonic clock, and is never ahead of it, so that nothing fires early; the machine's wall clock plays no part.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta

__all__ = ["DatabaseClock", "monotonic"]

monotonic = time.monotonic

_JUMP = 0.1
"""Seconds that an answer may differ from the estimate before it is taken for a clock that was set."""


class DatabaseClock:
    """The database's time, as far as it is known here."""

    __slots__ = ("_at", "_known", "jumped")

    def __init__(self, now: datetime) -> None:
        self._known = now
        self._at = monotonic()
        self.jumped: Callable[[], object] = lambda: None
        """Called when the database's clock was set: what waits for a time waits anew."""

    def heard(self, now: datetime) -> None:
        """An answer of the database said that its time is `now`. A clock that was set back is believed."""
        differs = (now - self._known).total_seconds() - (monotonic() - self._at)
        self._known = now
        self._at = monotonic()
        if not -_JUMP < differs < _JUMP:
            self.jumped()

    def now(self) -> datetime:
        """The database's time, at the latest."""
        return self._known + timedelta(seconds=monotonic() - self._at)

    def until(self, due_at: datetime) -> float:
        """Seconds from now to `due_at`; not negative."""
        return max(0.0, (due_at - self.now()).total_seconds())
