"""The clocks of a worker: the only file of this room that reads one.

All time that decides anything is the database's. `DatabaseClock` estimates it from the last answer of the server and
the monotonic clock, and is never ahead of it, so that nothing fires early; the machine's wall clock plays no part.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta

__all__ = ["DatabaseClock", "monotonic"]

monotonic = time.monotonic


class DatabaseClock:
    """The database's time, as far as it is known here."""

    __slots__ = ("_at", "_known")

    def __init__(self, now: datetime) -> None:
        self._known = now
        self._at = monotonic()

    def heard(self, now: datetime) -> None:
        """An answer of the database said that its time is `now`. A clock that was set back is believed."""
        self._known = now
        self._at = monotonic()

    def now(self) -> datetime:
        """The database's time, at the latest."""
        return self._known + timedelta(seconds=monotonic() - self._at)

    def until(self, due_at: datetime) -> float:
        """Seconds from now to `due_at`; not negative."""
        return max(0.0, (due_at - self.now()).total_seconds())
