"""Calls the functions of steps: sync ones on threads, async ones as tasks, and gives back what they came to.

It never touches the database (Transactions are called by `transactions.py`) and decides nothing: a result nobody wants
is dropped by the runner. Start-to-close timeouts are kept here; a sync function cannot be stopped, so its late result
is refused and its thread replaced.
"""

from __future__ import annotations

import asyncio
import copy
import os
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from flowgen.core.context import StepContext, StepFacts, enter, leave
from flowgen.core.decision import FunctionCall, Raised, Result, Returned, TimedOut
from flowgen.core.functions import ContextKind, Flavour
from flowgen.core.trees import ATOMS
from flowgen.failpoints import ARMED, failpoint
from flowgen.worker.clock import monotonic
from flowgen.worker.forks import end_child
from flowgen.worker.signals import AbortSignal
from flowgen.worker.threads import Threads

if TYPE_CHECKING:
    from flowgen.worker.live import LiveRun
    from flowgen.worker.saying import Heard

__all__ = ["Executor", "Lane", "RunningCall"]

T = TypeVar("T")

NO_REPORTS: Final[Mapping[str, Any]] = MappingProxyType({})
IGNORED = 1.0
"""Seconds after which the place of a task that was cancelled and goes on is given to another."""
_DOUBT = 0.01
"""Seconds between two looks at whether the lease holds, by a call that is about to begin."""

Settled = Callable[["RunningCall", Result | None], None]
"""Told the result of a call; None when the function was interrupted by a shutdown."""
Report = Callable[["RunningCall", Mapping[str, Any]], object]
"""Told what a function says of its progress, on the function's thread."""


@attrs.define(eq=False)
class RunningCall:
    """One call from its submission to its end."""

    call: FunctionCall
    run: LiveRun
    settled: Settled
    report: Report
    signal: AbortSignal = attrs.field(factory=AbortSignal)
    over: bool = False
    """It has been settled or dropped; what the function still does is nobody's."""
    begun_at: float | None = None
    task: asyncio.Task[Any] | None = None
    awaited: bool = False
    """Its task has begun."""
    lane: Lane | None = None
    """In which it has a place."""
    timer: asyncio.TimerHandle | None = None
    thread: bool = False
    replaced: bool = False
    """Its thread is stuck in the function, and another one took its place."""
    made: StepContext[Any] | None = None
    """The context, once it was asked for."""
    reports: Mapping[str, Any] = NO_REPORTS
    """All that the function said of its progress."""
    heard: Heard | None = None
    """The same as it is stored. Set on the function's thread."""
    told: Heard | None = None
    """What of it was taken into a commit."""
    telling: bool = False
    """The event loop knows that there is something to tell."""

    def context(self) -> StepContext[Any]:
        """The context of the function, made when it is first asked for."""
        if self.made is None:
            call = self.call
            facts = StepFacts(
                key=call.key,
                attempt=call.attempt,
                max_attempts=call.max_attempts,
                config=call.config,
                signal=self.signal,
                report=self._reported,
            )
            self.made = self.run.execution.step_context(facts)
        return self.made

    def _reported(self, report: Mapping[str, Any]) -> None:
        self.report(self, report)

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the function is called with."""
        command = self.call.command
        args, kwargs = fresh(command.args), dict(fresh(command.kwargs)) if command.kwargs else {}
        if command.function.context is not ContextKind.NONE:
            args = (self.context(), *args)
        return args, kwargs


AsyncCall = Callable[[RunningCall], Awaitable[Any]]


@attrs.define(eq=False)
class Lane:
    """Calls that are awaited on the event loop: so many at a time, the others wait in order."""

    size: int
    running: int = 0
    waiting: deque[tuple[RunningCall, AsyncCall]] = attrs.field(factory=deque)


class Executor:
    """Runs at most `threads` sync and `tasks` async functions at a time; the rest wait in order."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, threads: int, tasks: int, interrupted: Callable[[], None]
    ) -> None:
        """`interrupted` is called when a function raises KeyboardInterrupt: the worker is to stop."""
        self._loop = loop
        self._threads = Threads(threads, loop)
        self._tasks = Lane(tasks)
        self._interrupted = interrupted
        self.size = max(threads, tasks)
        self.pending = 0
        """Calls that were submitted and have not ended."""
        self.mean_seconds = 0.0
        """Of a call, smoothed, from one in eight: how fast a backlog goes away."""
        self._sampled = 0
        self._pid = os.getpid()
        self.short: Callable[[], bool] = lambda: False
        """Whether functions wait for connections that the server does not have."""
        self.trusted: Callable[[], bool] = lambda: True
        """Whether the lease is known to hold: a process that stood still begins no call before it has asked."""

    @property
    def starved(self) -> bool:
        """Functions wait, and there is no thread to call them, or no connection."""
        return self._threads.none or self.short()

    def submit(self, running: RunningCall) -> None:
        """Call a step's function as soon as there is room."""
        self.pending += 1
        function = running.call.command.function
        if function.flavour is Flavour.ASYNC:
            self._enter(running, _called_and_seen if ARMED else _called, self._tasks)
            return
        running.thread = True
        self._threads.submit(self._call, running, self._ended)

    def submit_to(self, lane: Lane, running: RunningCall, call: AsyncCall) -> None:
        """Await `call(running)` as soon as there is room in the lane."""
        self.pending += 1
        self._enter(running, call, lane)

    def _enter(self, running: RunningCall, call: AsyncCall, lane: Lane) -> None:
        if lane.running < lane.size:
            self._start(running, call, lane)
        else:
            lane.waiting.append((running, call))

    def in_thread(self, job: Callable[[], T]) -> asyncio.Future[T]:
        """Call `job` on a thread; for work that is awaited as a part of a task."""
        future: asyncio.Future[T] = self._loop.create_future()

        def done(_: object, value: Any, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error if not isinstance(error, StopIteration) else RuntimeError(repr(error)))
            else:
                future.set_result(value)

        self._threads.submit(lambda _: job(), None, done)
        return future

    def abort(self, running: RunningCall, reason: str) -> None:
        """Nobody wants the result: tell the function, and forget it."""
        running.signal.abort(reason)
        if running.over:
            return
        running.over = True
        self._disarm(running)
        if running.task is not None:
            if running.awaited:  # a task that is cancelled before would never give its place back
                running.task.cancel()
                self._loop.call_later(IGNORED, self._leave, running)
        elif running.thread and running.begun_at is not None:
            running.replaced = True
            self._threads.replace_one()

    def close(self) -> None:
        """Start nothing more; threads end with their functions."""
        self._tasks.waiting.clear()
        self._threads.close()

    # sync functions, on a thread

    def _call(self, running: RunningCall) -> Any:
        # `abort` sets `over` before it looks whether the call has begun: one of the two sees the other.
        running.begun_at = monotonic()
        while not self.trusted() and not running.over:
            running.signal.wait(_DOUBT)
        if running.over:
            return None
        if running.call.timeout is not None:
            self._loop.call_soon_threadsafe(self._arm, running)
        token = enter(running.context)
        try:
            value = _called(running)
            if ARMED:
                failpoint("step.after_body")
            return value
        finally:
            leave(token)

    # async functions, on the loop

    def _start(self, running: RunningCall, call: AsyncCall, lane: Lane) -> None:
        if running.over:
            self.pending -= 1
            return
        lane.running += 1
        running.lane = lane
        running.begun_at = monotonic()
        self._arm(running)
        running.task = asyncio.Task(self._run(running, call), loop=self._loop, name=running.call.key)

    async def _run(self, running: RunningCall, call: AsyncCall) -> None:
        value: Any = None
        error: BaseException | None = None
        try:
            running.awaited = True
            while not self.trusted() and not running.over:
                await asyncio.sleep(_DOUBT)
            if not running.over:
                enter(running.context)  # the task is the function's alone
                value = await call(running)
        except BaseException as raised:
            error = raised
        finally:
            end_child(self._pid)
            self._leave(running)
        self._ended(running, value, error)

    def _leave(self, running: RunningCall) -> None:
        """Its place is another's: it has ended, or it ignores that it was cancelled."""
        lane, running.lane = running.lane, None
        if lane is None:
            return
        lane.running -= 1
        while lane.waiting and lane.running < lane.size:
            self._start(*lane.waiting.popleft(), lane)

    # ends

    def _arm(self, running: RunningCall) -> None:
        if running.call.timeout is not None and not running.over and running.begun_at is not None:
            left = running.begun_at + running.call.timeout.total_seconds() - monotonic()
            running.timer = self._loop.call_later(max(0.0, left), self._timed_out, running)

    def _disarm(self, running: RunningCall) -> None:
        if running.timer is not None:
            running.timer.cancel()
            running.timer = None

    def _timed_out(self, running: RunningCall) -> None:
        assert running.call.timeout is not None
        if not running.over:
            self.abort(running, "timeout")
            running.settled(running, TimedOut(running.call.timeout))

    def _ended(self, running: RunningCall, value: Any, error: BaseException | None) -> None:
        self.pending -= 1
        running.task = running.made = None  # these know the call
        self._sampled = self._sampled + 1 & 7
        if (not self._sampled or not self.mean_seconds) and running.begun_at is not None:
            self.mean_seconds += 0.25 * (monotonic() - running.begun_at - self.mean_seconds)
        if running.over:
            if running.replaced:
                self._threads.restore_one()
            return
        running.over = True
        if running.timer is not None:
            self._disarm(running)
        if error is None:
            running.settled(running, Returned(value))
        elif isinstance(error, KeyboardInterrupt):
            running.settled(running, None)
            self._interrupted()
        else:
            running.settled(running, Raised(error))


async def _called_and_seen(running: RunningCall) -> Any:
    value = await _called(running)
    failpoint("step.after_body")
    return value


def _called(running: RunningCall) -> Any:
    command = running.call.command
    function = command.function
    if ARMED:
        failpoint("step.before_body")
    if function.context is ContextKind.NONE and not command.kwargs:
        return function.fn(*fresh(command.args))
    args, kwargs = running.arguments()
    return function.fn(*args, **kwargs)


def fresh(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """The arguments for one call: copies, as the function of a child is given, so that nobody sees what it changes.

    Neither the handler, which a replay would not show it to, nor the next attempt. What cannot be copied is shared.
    """
    for each in args:
        if type(each) not in ATOMS:
            try:
                return copy.deepcopy(args)
            except Exception:
                return args
    return args
