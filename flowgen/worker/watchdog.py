"""Drives the handlers, watched: what one does between two yields is meant to take microseconds, and holds the others.

A thread looks now and then at what the event loop's thread is doing. After `SLOW` it says which line is slow; after
`LIMIT` it interrupts the handler, whose run is then parked as stuck with its stack. The heartbeat goes on meanwhile, so
no run is lost to a slow handler.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import sys
import threading
import traceback
from asyncio import events
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import FrameType

from flowgen.core.decision import Decision, Parked
from flowgen.core.entries import Entry
from flowgen.failpoints import ARMED, failpoint
from flowgen.worker.clock import monotonic
from flowgen.worker.live import LiveRun

__all__ = ["LIMIT", "SLOW", "Watchdog"]

SLOW = 1.0
"""Seconds between two yields after which the worker says which line is slow."""
LIMIT = 10.0
"""Seconds after which the handler is interrupted."""


class Stuck(BaseException):
    """Raised inside a handler that does not come to its next yield."""


class Watchdog:
    """One thread watches; the event loop's thread drives."""

    def __init__(self, log: logging.Logger, loop: asyncio.AbstractEventLoop) -> None:
        self._log = log
        self._loop = loop
        self._hidden = False
        self._lock = threading.Lock()
        self._run: LiveRun | None = None
        self._drives = 0
        self._told = False
        self._stack: str | None = None
        self._watched = threading.get_ident()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="flowgen-watchdog", daemon=True)
        self._thread.start()

    @contextmanager
    def many(self) -> Generator[None]:
        """A block in which many handlers are driven, one after the other.

        A handler that calls asyncio is told that there is no loop, instead of hanging this one.
        """
        self._hidden = True
        events._set_running_loop(None)  # noqa: SLF001 - what a loop does between two of its runs
        try:
            yield
        finally:
            events._set_running_loop(self._loop)  # noqa: SLF001
            self._hidden = False

    def drive(self, run: LiveRun, delivered: Sequence[Entry], now: datetime) -> Decision:
        """`Execution.advance`, watched. Only the event loop's thread calls it."""
        if not self._hidden:
            with self.many():
                return self.drive(run, delivered, now)
        self._drives += 1
        self._run = run
        try:
            if ARMED:
                failpoint("handler.before_send" if delivered else "handler.start")
            decision = run.execution.advance(now, delivered)
            if ARMED and delivered:
                failpoint("handler.after_send")
        except Stuck:
            decision = Decision()
        except Exception:  # not the handler's, which the execution keeps: nobody else's run shall suffer from it
            self._log.exception("%s (%s) could not be driven", run.claimed.name, run.claimed.id or run.run_id)
            detail = f"flowgen itself failed while it drove this run:\n{traceback.format_exc()}"
            decision = Decision(finish=Parked("stuck", detail))
        finally:
            self._run = None
        return self._interrupted() or decision if self._told else decision

    def _interrupted(self) -> Decision | None:
        """What becomes of a run whose handler was interrupted; None when it was slow and no more."""
        with self._lock:
            self._told = False
            stack, self._stack = self._stack, None
        if stack is None:
            return None
        detail = f"the handler did not come to its next yield within {LIMIT:g} s; it was interrupted here:\n{stack}"
        return Decision(finish=Parked("stuck", detail))

    def stop(self) -> None:
        """Watch no more."""
        self._stop.set()
        self._thread.join(timeout=5)

    def _watch(self) -> None:
        drive, yields, since = 0, 0, 0.0
        while not self._stop.wait(SLOW / 4):
            with self._lock:
                run = self._run
                done = run.execution.view.yields if run is not None else 0
                if run is None or self._drives != drive or done != yields:
                    drive, yields, since = self._drives, done, monotonic()
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
                    stack = "".join(traceback.format_stack(frame)[-12:])
                    came_back = self._run is not run or self._drives != drive or run.execution.view.yields != yields
                    if came_back:  # while its stack was read
                        continue
                    self._stack = stack
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._watched), ctypes.py_object(Stuck))


def _line(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
