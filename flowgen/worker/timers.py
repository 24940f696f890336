"""Timers of the event loop by the database's clock: near retries, sleeps inside branches, deadlines.

A timer here is a convenience of a live run: it is lost with the process, and the row that it stands for is not.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from datetime import datetime

from flowgen.worker.clock import DatabaseClock

__all__ = ["Timers"]

_MARGIN = 0.0005
"""Seconds that are waited longer, so that the estimate of the database's clock has passed the due time too."""


class Timers:
    """One heap, one handle of the event loop for the earliest."""

    def __init__(self, clock: DatabaseClock, loop: asyncio.AbstractEventLoop) -> None:
        self._clock = clock
        self._loop = loop
        self._heap: list[tuple[datetime, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._handle: asyncio.TimerHandle | None = None
        self._set_for: datetime | None = None
        clock.jumped = self._arm

    def at(self, due_at: datetime, call: Callable[[], None]) -> None:
        """Call once, at or soon after `due_at` of the database's clock."""
        heapq.heappush(self._heap, (due_at, next(self._order), call))
        if self._set_for is None or due_at < self._set_for:
            self._arm()

    def clear(self) -> None:
        """Forget every timer."""
        self._heap.clear()
        self._arm()

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._set_for = None
        if self._heap:
            self._set_for = self._heap[0][0]
            wait = self._clock.until(self._set_for) + _MARGIN
            self._handle = self._loop.call_later(wait, self._fire)

    def _fire(self) -> None:
        self._handle = None
        now = self._clock.now()
        due: list[Callable[[], None]] = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap)[2])
        self._arm()
        for call in due:
            call()
