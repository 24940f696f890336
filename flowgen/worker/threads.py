"""Plain threads that call sync functions, fed by one queue; results go back to the event loop a batch at a time.

A function that outlives its timeout keeps its thread; another thread takes its place, and the late one ends when its
function does. So a stuck function never takes a slot from the others for good.

Only the event loop's thread submits, and only it counts: a call costs no lock. The other threads share with it a queue,
a deque and a flag, each of which changes in one step. A thread adds its result before it looks at the flag, and the
loop lowers the flag before it looks at the results: so a result is never left lying.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeAlias

from flowgen.worker.forks import end_child

__all__ = ["Threads"]

_log = logging.getLogger("flowgen.worker")
AGAIN = 0.5
"""Seconds after which a thread is asked for again."""

Job: TypeAlias = Callable[[Any], Any]
Done: TypeAlias = Callable[[Any, Any, BaseException | None], None]


class Threads:
    """Up to `size` threads, started when they are needed."""

    def __init__(self, size: int, loop: asyncio.AbstractEventLoop, *, name: str = "flowgen-step") -> None:
        self._size = size
        self._loop = loop
        self._name = name
        self._queue: SimpleQueue[tuple[Job, Any, Done] | None] = SimpleQueue()
        self._finished: deque[tuple[Done, Any, Any, BaseException | None]] = deque()
        self._waking = False
        self._threads = 0
        self._surplus = 0
        self._pid = os.getpid()
        self._short = False
        """The machine gave no thread when it was last asked, a moment ago."""
        self._pending = 0
        """Jobs that were submitted and are not known to have ended."""

    @property
    def none(self) -> bool:
        """No thread can be had for now: what is submitted waits."""
        return self._short and not self._threads

    def submit(self, job: Job, argument: Any, done: Done) -> None:
        """Call `job(argument)` on a thread, then `done(argument, value, error)` on the event loop."""
        self._pending += 1
        self._queue.put((job, argument, done))
        if self._threads < self._pending and self._threads < self._size + self._surplus and not self._short:
            self._start()

    def replace_one(self) -> None:
        """A function is stuck: let one more thread take its place until it comes back."""
        self._surplus += 1
        if self._threads < self._pending:
            self._start()

    def restore_one(self) -> None:
        """The stuck function came back: one thread too many ends."""
        self._surplus -= 1
        if self._threads > self._size + self._surplus:
            self._threads -= 1
            self._queue.put(None)

    def close(self) -> None:
        """Let every thread end after its function."""
        for _ in range(self._threads):
            self._queue.put(None)
        self._threads = 0

    def _start(self) -> None:
        self._threads += 1
        try:
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        except RuntimeError as error:
            self._threads -= 1
            if not self._short:
                self._short = True
                _log.warning("no thread can be started (%s): %s of %s run", error, self._threads, self._size)
                self._loop.call_later(AGAIN, self._start_again)

    def _start_again(self) -> None:
        self._short = False
        while self._threads < min(self._pending, self._size + self._surplus) and not self._short:
            self._start()

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            job, argument, done = item
            value: Any = None
            error: BaseException | None = None
            try:
                value = job(argument)
            except BaseException as raised:
                error = raised
            end_child(self._pid)
            self._finished.append((done, argument, value, error))
            if not self._waking:
                self._waking = True
                try:
                    self._loop.call_soon_threadsafe(self._deliver)
                except RuntimeError:  # the loop is closed: nobody waits for the result
                    pass
            # What a thread keeps while it waits for its next call would live as long.
            del item, job, argument, done, value, error

    def _deliver(self) -> None:
        self._waking = False
        finished = self._finished
        try:
            while finished:
                self._pending -= 1
                done, argument, value, error = finished.popleft()
                done(argument, value, error)
        finally:
            if finished:  # one could not be told its end: the others are
                self._loop.call_soon(self._deliver)
