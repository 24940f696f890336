"""Functions of steps, called when the schedule says so; and what stands around them in a worker: threads, timers.

The functions are the user's, or what a test scripts in their place. The invariant: a call is begun, and its result is
told, at most once each.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from flowgen.core.context import enter
from flowgen.core.decision import Raised, Result, Returned, TimedOut

if TYPE_CHECKING:
    from flowgen.testing.simulation.loop import Loop
    from flowgen.worker.executor import Lane, RunningCall

__all__ = ["Clock", "Executor", "Job", "Timers"]

AsyncCall = Callable[["RunningCall"], Awaitable[Any]]


class Job:
    """What a thread is to do: the function of a step, or a piece of a Transaction."""

    __slots__ = ("future", "piece", "result", "running")

    def __init__(
        self,
        running: RunningCall | None,
        piece: Callable[[], Any] | None = None,
        future: asyncio.Future[Any] | None = None,
    ) -> None:
        self.running = running
        self.piece = piece
        self.future = future
        self.result: Result | None = None
        """Of a function that has returned while its worker does not know it yet."""


class Executor:
    """In the place of the threads: what is submitted waits here for the schedule."""

    size = 4
    mean_seconds = 0.0

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.jobs: list[Job] = []

    @property
    def pending(self) -> int:
        return len(self.jobs)

    def submit(self, running: RunningCall) -> None:
        self.jobs.append(Job(running))

    def submit_to(self, lane: Lane, running: RunningCall, call: AsyncCall) -> None:
        running.task = self._loop.create_task(self._run(running, call))

    def in_thread(self, job: Callable[[], Any]) -> asyncio.Future[Any]:
        future = self._loop.create_future()
        self.jobs.append(Job(None, job, future))
        return future

    def abort(self, running: RunningCall, reason: str) -> None:
        """Nobody wants the result."""
        running.signal.abort(reason)
        if running.over:
            return
        running.over = True
        if running.task is not None and running.awaited:
            running.task.cancel()

    def time_out(self, running: RunningCall) -> None:
        """The function was still running at the end of its timeout."""
        assert running.call.timeout is not None
        if not running.over:
            self.abort(running, "timeout")
            running.settled(running, TimedOut(running.call.timeout))

    def ended(self, running: RunningCall, result: Result) -> None:
        """Tell what a function came to."""
        if not running.over:
            running.over = True
            running.settled(running, result)

    async def _run(self, running: RunningCall, call: AsyncCall) -> None:
        result: Result
        try:
            running.awaited = True
            value: Any = None
            if not running.over:
                enter(running.context)
                value = await call(running)
            result = Returned(value)
        except BaseException as error:
            result = Raised(error)
        running.task = running.made = None
        self.ended(running, result)


class Clock:
    """The store's time, as its workers know it."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.now = now

    def heard(self, now: datetime) -> None:
        """There is nothing to learn."""

    def until(self, due_at: datetime) -> float:
        return max(0.0, (due_at - self.now()).total_seconds())


class Timers:
    """Timers of one worker, which fire when the schedule comes to them."""

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, due_at: datetime, call: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (due_at, self._count, call))

    def clear(self) -> None:
        self._heap.clear()

    @property
    def due_at(self) -> datetime | None:
        return self._heap[0][0] if self._heap else None

    def fire(self) -> None:
        """The earliest."""
        heapq.heappop(self._heap)[2]()
