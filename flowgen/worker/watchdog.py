"""Watches the handlers: what one does between two yields is meant to take microseconds, and holds every other run.

A thread looks now and then at what the event loop's thread is doing. After `SLOW` it says which line is slow; after
`LIMIT` it interrupts the handler, whose run is then parked as stuck with its stack. The heartbeat goes on meanwhile, so
no run is lost to a slow handler.
"""

from __future__ import annotations

import ctypes
import logging
import sys
import threading
import traceback
from types import FrameType

from flowgen.worker.clock import monotonic
from flowgen.worker.live import LiveRun

__all__ = ["LIMIT", "SLOW", "Stuck", "Watchdog"]

SLOW = 1.0
"""Seconds between two yields after which the worker says which line is slow."""
LIMIT = 10.0
"""Seconds after which the handler is interrupted."""


class Stuck(BaseException):
    """Raised inside a handler that does not come to its next yield."""


class Watchdog:
    """One thread; `begin` and `end` are called by the event loop's thread around each drive of a handler."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self._run: LiveRun | None = None
        self._drives = 0
        self._told = False
        self._stack: str | None = None
        self._watched = threading.get_ident()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="flowgen-watchdog", daemon=True)
        self._thread.start()

    def begin(self, run: LiveRun) -> None:
        """The handler of this run is driven from now on."""
        self._drives += 1
        self._run = run

    def end(self) -> str | None:
        """The handler is back; its stack when it was interrupted."""
        self._run = None
        if not self._told:
            return None
        with self._lock:
            self._told = False
            stack, self._stack = self._stack, None
        return stack

    def stop(self) -> None:
        """Watch no more."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _watch(self) -> None:
        drive, since = 0, 0.0
        while not self._stop.wait(SLOW / 4):
            with self._lock:
                run = self._run
                if run is None or self._drives != drive:
                    drive, since = self._drives, monotonic()
                    continue
                took = monotonic() - since
                frame = sys._current_frames().get(self._watched)  # noqa: SLF001 - what a debugger reads
                if frame is None or took < SLOW:
                    continue
                if not self._told:
                    self._told = True
                    self._log.warning(
                        "%s (%s) has not come to its next yield for %.1f s, at %s: no other run goes on; move the "
                        "work into a Step",
                        run.claimed.name,
                        run.claimed.id or run.run_id,
                        took,
                        _line(frame),
                    )
                if took >= LIMIT and self._stack is None:
                    self._stack = "".join(traceback.format_stack(frame)[-12:])
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._watched), ctypes.py_object(Stuck))


def _line(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
