"""The event loop of one simulated worker: runs what is ready, in order, and never waits.

The agents of a worker are coroutines; what they wait for is an answer of the database, a function or a pause, and all
three come when the schedule says so. It has no clock, no selector and no threads. The invariant: between two events of
the schedule nothing is left to run.
"""

from __future__ import annotations

import asyncio
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any, cast

from flowgen.testing.simulation.witness import Violated

__all__ = ["Handle", "Hidden", "Loop"]


class Handle:
    """A call that was asked for."""

    __slots__ = ("args", "call", "cancelled", "context")

    def __init__(self, call: Callable[..., object], args: tuple[Any, ...], context: Context | None) -> None:
        self.call = call
        self.args = args
        self.context = context if context is not None else copy_context()
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Hidden:
    """A block for which there is no running loop, as for handlers in a real worker."""

    def __init__(self) -> None:
        self._before: list[asyncio.AbstractEventLoop | None] = []

    def __enter__(self) -> None:
        self._before.append(events._get_running_loop())  # noqa: SLF001
        events._set_running_loop(None)  # noqa: SLF001

    def __exit__(self, *_: object) -> None:
        events._set_running_loop(self._before.pop())  # noqa: SLF001


class Loop:
    """Just what tasks and futures ask of a loop."""

    def __init__(self) -> None:
        self.hidden = Hidden()
        self._ready: deque[Handle] = deque()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.pauses: list[Handle] = []
        """What somebody sleeps for, in the order of falling asleep."""
        self.error: BaseException | None = None
        """What ended an agent that is never to end."""

    def run(self, *calls: Callable[[], object]) -> None:
        """Do these, then all that becomes ready by them."""
        before = events._get_running_loop()  # noqa: SLF001 - what a loop does around its runs
        events._set_running_loop(cast(Any, self))  # noqa: SLF001
        try:
            for call in calls:
                call()
            ready = self._ready
            while ready:
                handle = ready.popleft()
                if not handle.cancelled:
                    handle.context.run(handle.call, *handle.args)
        finally:
            events._set_running_loop(before)  # noqa: SLF001
        if self.error is not None:
            error, self.error = self.error, None
            if isinstance(error, Violated) or not isinstance(error, Exception):
                raise error
            raise Violated("I19", f"{type(error).__name__}: {error}") from error

    def wake(self, place: int) -> None:
        """Somebody has slept long enough."""
        handle = self.pauses.pop(place)
        if not handle.cancelled:
            self.run(lambda: handle.context.run(handle.call, *handle.args))

    def close(self) -> None:
        """The process is gone: nothing of what was under way goes on."""
        for task in list(self._tasks):
            task.cancel()
        self.run()
        self.pauses.clear()

    def agent(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task whose error is an error of the simulated worker."""
        task = self.create_task(coroutine)
        task.add_done_callback(self._agent_ended)
        return task

    def _agent_ended(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and self.error is None:
            self.error = task.exception()

    # what tasks and futures call

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> Any:
        handle = Handle(callback, args, context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Any:
        handle = Handle(callback, args, context)
        self.pauses.append(handle)
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=cast(Any, self))

    def create_task(self, coro: Any, **given: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=cast(Any, self))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def call_exception_handler(self, context: Any) -> None:
        """Nobody has asked for the error of a future: with a process that is gone it goes too."""
