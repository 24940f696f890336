"""Flows for your own handlers, made of nothing but commands: write one yourself where these do not fit.

Each is a generator: `yield from batch(...)` in a generator handler, `await Scope("load", batch(...))` in a coroutine.
The commands that it yields stand in the history under their own names, as if they were written in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any, Generic, Literal, overload

import attrs
from typing_extensions import TypeVar

from flowgen.core.commands import Branch, Command, Flow, Invoke, Map, Race, Saga, Sleep, Step
from flowgen.core.commands.graphs import PlainFunction
from flowgen.core.definitions import Definition
from flowgen.core.durations import MAX_DURATION, Duration, as_timedelta
from flowgen.core.names import step_name
from flowgen.errors import DefinitionError, Failure, WaitTimedOut

__all__ = ["BatchFailure", "BatchResult", "Range", "batch", "poll", "saga", "split"]

T = TypeVar("T")
R = TypeVar("R", default=Any)
C = TypeVar("C", default=int)


@attrs.frozen
class Range(Generic[C]):
    """The part of a batch that one worker does.

    Of a count: the items of `range(start, end)`. Of a list of cursors: those from `start` to `end`, both included.
    """

    start: C
    end: C


@attrs.frozen
class BatchFailure:
    """A worker of a batch that failed, and its part."""

    part: Range[Any]
    failure: Failure


@attrs.frozen
class BatchResult(Generic[R]):
    """What the workers of a batch came to."""

    results: list[R]
    """Of the workers that succeeded, in the order of their parts."""
    failures: list[BatchFailure]
    worker_count: int
    """How many there were; 0 when there was nothing to do."""
    success_rate: float
    """Of the workers, from 0 to 1; 1 when there was nothing to do."""


@overload
def batch(
    analyze: Callable[..., Any],
    work: Callable[..., Any],
    aggregate: Definition[..., Any, T],
    /,
    *args: Any,
    workers: int | None = None,
    size: int | None = None,
    limit: int | None = None,
    on_failure: Literal["fail_fast", "continue"] = "fail_fast",
    as_runs: bool = False,
) -> Flow[T]: ...
@overload
def batch(
    analyze: Callable[..., Any],
    work: Callable[..., Any],
    aggregate: PlainFunction[Coroutine[Any, Any, T]],
    /,
    *args: Any,
    workers: int | None = None,
    size: int | None = None,
    limit: int | None = None,
    on_failure: Literal["fail_fast", "continue"] = "fail_fast",
    as_runs: bool = False,
) -> Flow[T]: ...
@overload
def batch(
    analyze: Callable[..., Any],
    work: Callable[..., Any],
    aggregate: PlainFunction[T],
    /,
    *args: Any,
    workers: int | None = None,
    size: int | None = None,
    limit: int | None = None,
    on_failure: Literal["fail_fast", "continue"] = "fail_fast",
    as_runs: bool = False,
) -> Flow[T]: ...
def batch(
    analyze: Any,
    work: Any,
    aggregate: Any,
    /,
    *args: Any,
    workers: int | None = None,
    size: int | None = None,
    limit: int | None = None,
    on_failure: Literal["fail_fast", "continue"] = "fail_fast",
    as_runs: bool = False,
) -> Flow[Any]:
    """Cut what there is to do into ranges, do each in a worker of its own, and put the results together.

    `analyze(*args)` gives a count, or a list of cursors; `work(part, *args)` does one `Range`; `aggregate(done, *args)`
    makes of the `BatchResult` what the batch gives. A workflow or generator task is a child run, everything else a
    step, and with `as_runs=True` every task is a child run. Nothing to do goes straight to `aggregate`.

    Args:
        workers: how many ranges to make at most, as equal as they can be with the last one shorter: 1000 items by 3 are
            334, 334, 332.
        size: items of a range; instead of `workers`.
        limit: ranges under way at a time; as of `Map`.
        on_failure: "fail_fast" rethrows the first failure, after the other workers were cancelled; "continue" lets them
            go on, and `aggregate` is given the failures.

    Raises:
        DefinitionError: for `workers`, `size` or a count that do not fit.
    """
    _check_cut(workers, size)
    found = yield from _call(analyze, args, as_runs)
    parts = split(found, workers=workers, size=size)

    def part_of_batch(part: Range[Any]) -> Flow[Any]:
        return (yield from _call(work, (part, *args), as_runs))

    came: Sequence[Any] = ()
    if on_failure == "continue":
        came = yield from Map(part_of_batch, parts, limit=limit, on_failure="continue")
    else:
        came = yield from Map(part_of_batch, parts, limit=limit)
    both = list(zip(parts, came, strict=True))
    failures = [BatchFailure(part, each) for part, each in both if isinstance(each, Failure)]
    results = [each for each in came if not isinstance(each, Failure)]
    rate = len(results) / len(parts) if parts else 1.0
    return (yield from _call(aggregate, (BatchResult(results, failures, len(parts), rate), *args), as_runs))


def split(found: int | Sequence[Any], *, workers: int | None = None, size: int | None = None) -> list[Range[Any]]:
    """The ranges of a count, or of a list of cursors: `split(1000, workers=3)`. Raises DefinitionError."""
    _check_cut(workers, size)
    cursors = found if isinstance(found, Sequence) and not isinstance(found, str | bytes) else None
    total = len(cursors) if cursors is not None else found
    if isinstance(total, bool) or not isinstance(total, int) or total < 0:
        raise DefinitionError(f"what analyzes a batch gives a count or a list of cursors, not {found!r}")
    step = size if size is not None else -(-total // (workers or 1)) or 1
    cuts = [(start, min(start + step, total)) for start in range(0, total, step)]
    if cursors is None:
        return [Range(start, end) for start, end in cuts]
    return [Range(cursors[start], cursors[end - 1]) for start, end in cuts]


def _check_cut(workers: int | None, size: int | None) -> None:
    given = workers if size is None else size
    if (workers is None) == (size is None) or isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise DefinitionError(
            "a batch is cut by workers=, how many ranges to make, or by size=, how many items a range has: one of "
            f"them, 1 or more; not workers={workers!r}, size={size!r}"
        )


def _call(fn: Any, args: Sequence[Any], as_runs: bool) -> Command[Any]:
    run = isinstance(fn, Definition) and (as_runs or fn.is_handler)
    return Invoke[Any](fn, *args) if run else Step[Any](fn, *args)


@overload
def poll(
    fn: Definition[..., Any, T],
    /,
    *args: Any,
    until: Callable[[T], bool],
    every: Duration,
    backoff: float = 1.0,
    maximum: Duration | None = None,
    timeout: Duration | None = None,
) -> Flow[T]: ...
@overload
def poll(
    fn: PlainFunction[Coroutine[Any, Any, T]],
    /,
    *args: Any,
    until: Callable[[T], bool],
    every: Duration,
    backoff: float = 1.0,
    maximum: Duration | None = None,
    timeout: Duration | None = None,
) -> Flow[T]: ...
@overload
def poll(
    fn: PlainFunction[T],
    /,
    *args: Any,
    until: Callable[[T], bool],
    every: Duration,
    backoff: float = 1.0,
    maximum: Duration | None = None,
    timeout: Duration | None = None,
) -> Flow[T]: ...
def poll(
    fn: Any,
    /,
    *args: Any,
    until: Callable[[Any], bool],
    every: Duration,
    backoff: float = 1.0,
    maximum: Duration | None = None,
    timeout: Duration | None = None,
) -> Flow[Any]:
    """Call `fn(*args)` again and again, with a Sleep in between, until `until` says yes to what it gives.

    The first wait is `every`; each is `backoff` times as long as the one before, up to `maximum`. Each round is
    recorded, so a poll of more than some thousand rounds belongs into a handler that saves a Checkpoint.

    Raises:
        WaitTimedOut: after `timeout`; a call that is under way is cancelled.
        DefinitionError: for values that do not fit.
    """
    wait = as_timedelta(every, what="poll(every=)", positive=True)
    longest = MAX_DURATION if maximum is None else as_timedelta(maximum, what="poll(maximum=)", positive=True)
    if isinstance(backoff, bool) or not isinstance(backoff, int | float) or not 1 <= backoff <= 1000:
        raise DefinitionError(f"poll(backoff=) is what each wait is multiplied with, 1 to 1000, not {backoff!r}")
    rounds = _rounds(fn, args, until, wait, float(backoff), longest)
    if timeout is None:
        return (yield from rounds)
    limit = as_timedelta(timeout, what="poll(timeout=)", positive=True)
    won = yield from Race(poll=rounds, timeout=Sleep(limit))
    if won.tag == "poll":
        return won.value
    name = step_name(fn)
    raise WaitTimedOut(f"{name} did not come to what it is polled for within {limit.total_seconds():g} s", name=name)


def _rounds(
    fn: Any, args: Sequence[Any], until: Callable[[Any], bool], wait: timedelta, backoff: float, longest: timedelta
) -> Flow[Any]:
    while True:
        value = yield from _call(fn, args, as_runs=False)
        if until(value):
            return value
        yield from Sleep(min(wait, longest))
        wait = wait * backoff if wait < longest else longest


def saga(flow: Branch[T], *, name: str | None = None) -> Flow[T]:
    """A flow that is undone when it fails, by the `compensate=` of its commands: `yield from saga(book(trip))`."""
    made = Saga(flow)
    return (yield from (made if name is None else made.opts(name=name)))
