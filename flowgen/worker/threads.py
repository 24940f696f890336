"""Plain threads that call sync functions, fed by one queue; results go back to the event loop a batch at a time.

A function that outlives its timeout keeps its thread; another thread takes its place, and the late one ends when its
function does. So a stuck function never takes a slot from the others for good.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeAlias

__all__ = ["Threads"]

Job: TypeAlias = Callable[[], Any]
Done: TypeAlias = Callable[[Any, BaseException | None], None]


class Threads:
    """Up to `size` threads, started when they are needed."""

    def __init__(self, size: int, loop: asyncio.AbstractEventLoop, *, name: str = "flowgen-step") -> None:
        self._size = size
        self._loop = loop
        self._name = name
        self._queue: SimpleQueue[tuple[Job, Done] | None] = SimpleQueue()
        self._finished: deque[tuple[Done, Any, BaseException | None]] = deque()
        self._lock = threading.Lock()
        self._waking = False
        self._threads = 0
        self._surplus = 0
        self._idle = 0

    def submit(self, job: Job, done: Done) -> None:
        """Call `job` on a thread, then `done(value, error)` on the event loop."""
        with self._lock:
            if self._idle > self._queue.qsize() or self._threads >= self._size + self._surplus:
                start = False
            else:
                self._threads += 1
                start = True
        self._queue.put((job, done))
        if start:
            threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def replace_one(self) -> None:
        """A function is stuck: let one more thread take its place until it comes back."""
        with self._lock:
            self._surplus += 1
            start = self._queue.qsize() > 0
            if start:
                self._threads += 1
        if start:
            threading.Thread(target=self._work, name=self._name, daemon=True).start()

    def restore_one(self) -> None:
        """The stuck function came back: one thread too many ends."""
        with self._lock:
            self._surplus -= 1
            surplus = self._threads > self._size + self._surplus
        if surplus:
            self._queue.put(None)

    def close(self) -> None:
        """Let every thread end after its function."""
        with self._lock:
            threads = self._threads
        for _ in range(threads):
            self._queue.put(None)

    def _work(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            item = self._queue.get()
            with self._lock:
                self._idle -= 1
                if item is None:
                    self._threads -= 1
                    return
            job, done = item
            value: Any = None
            error: BaseException | None = None
            try:
                value = job()
            except BaseException as raised:
                error = raised
            self._hand_over(done, value, error)

    def _hand_over(self, done: Done, value: Any, error: BaseException | None) -> None:
        self._finished.append((done, value, error))
        with self._lock:
            if self._waking:
                return
            self._waking = True
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:  # the loop is closed: nobody waits for the result
            pass

    def _deliver(self) -> None:
        with self._lock:
            self._waking = False
        finished = self._finished
        while finished:
            done, value, error = finished.popleft()
            done(value, error)
