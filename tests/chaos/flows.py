"""The workflows: every command, with the arithmetic of `expected.py`.

Every value and error that a handler is sent goes through `see`, which tells the witness before the handler uses it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from flowgen import (
    Checkpoint,
    ChildFailed,
    Context,
    Failure,
    Flow,
    Gather,
    GraphResult,
    Invoke,
    Now,
    OutcomeError,
    Random,
    Retry,
    Schedule,
    Scope,
    Sleep,
    Start,
    Step,
    StepFailed,
    StepInterrupted,
    StepTimedOut,
    Transaction,
    Unschedule,
    Uuid,
    Wait,
    Winner,
    current,
)
from tests.chaos import bodies, witness
from tests.chaos.bodies import app
from tests.chaos.expected import INTERRUPTED, pages_of, pause, pick, steps_of

__all__ = ["app", "branch", "double", "nap_for", "nested", "see"]


def _told(key: str, segment: int, value: str, whole: bool) -> None:
    facts = {"whole": True} if whole else {}
    witness.say("sent", run=str(current().task_uuid), key=key, seg=segment, value=value, **facts)


def see(key: str, command: Any, segment: int = 0, *, whole: bool = False) -> Generator[Any, Any, Any]:
    """Yield a command and tell what came back. `whole`: of a composite, whose outcome is not stored by itself."""
    try:
        value = yield command
    except OutcomeError as error:
        _told(key, segment, witness.of_error(error), whole)
        raise
    _told(key, segment, witness.of_value(_shown(value)), whole)
    return value


def nap_for(key: str, seconds: float, segment: int = 0) -> Generator[Any, Any, Any]:
    """Sleep, and tell how long it was to be."""
    witness.say("nap", run=str(current().task_uuid), key=key, seg=segment, seconds=seconds)
    yield from see(key, Sleep(seconds), segment)


def _shown(value: Any) -> Any:
    if isinstance(value, Failure):
        return [value.type, value.message]
    if isinstance(value, Winner):
        return [value.tag, _shown(value.value)]
    if isinstance(value, GraphResult):
        return [str(dict(value)), str(dict(value.skipped)), str(list(value.failed))]
    return [_shown(each) for each in value] if isinstance(value, tuple | list) else value


@app.workflow
def linear(n: int) -> Flow[int]:
    total = 0
    for k in range(steps_of(n)):
        name = "add" if k % 2 == 0 else "add_async"
        fn = bodies.add if k % 2 == 0 else bodies.add_async
        number = k // 2 + 1
        key = name if number == 1 else f"{name}#{number}"
        total += yield from see(key, Step(fn, n, k, pause(n, f"{k}")))
    return total


@app.workflow
def wobbly(n: int) -> Flow[dict[str, Any]]:
    quick = Retry(3, initial=0.1)
    one = yield from see("flaky", Step(bodies.flaky, n + 1, pick(n, "sync", 3)).opts(retry=quick))
    two = yield from see("flaky_async", Step(bodies.flaky_async, n + 2, pick(n, "async", 3)).opts(retry=quick))
    said = {}
    try:
        yield from see("broken", Step(bodies.broken).opts(retry=Retry(2, initial=0.1)))
    except StepFailed as error:
        said["broken"] = str(error.failure)
    try:
        yield from see("no", Step(bodies.refused).opts(name="no"))
    except StepFailed as error:
        said["refused"] = str(error.failure)
    return {"sync": one, "async": two, **said}


@app.workflow
def far(n: int) -> Flow[int]:
    """A backoff that is long enough to hang up."""
    fails = Step(bodies.flaky, n + 3, 1).opts(retry=Retry(2, initial=6, jitter=0))
    return int((yield from see("flaky", fails)))


@app.workflow
def late(n: int) -> Flow[dict[str, Any]]:
    said = {}
    for name, fn in (("sync", bodies.stuck), ("async", bodies.stuck_async)):
        try:
            step = Step(fn).opts(name=name, timeout=0.2, retry=Retry(2, initial=0.05))
            yield from see(name, step)
        except StepTimedOut:
            said[name] = "timed out"
    after = yield from see("add", Step(bodies.add, n, 0))
    return {**said, "after": after}


def _maybe(key: str, *args: Any, retry: Retry | None = None) -> Generator[Any, Any, Any]:
    step = Step(bodies.once_only, *args).opts(name=key.rpartition("/")[2], at_most_once=True, retry=retry or Retry(1))
    try:
        return (yield from see(key, step))
    except StepInterrupted:
        return INTERRUPTED


@app.workflow
def once(n: int) -> Flow[dict[str, Any]]:
    one = yield from _maybe("one", n, pause(n, "one", 1.0))
    two = yield from _maybe("two", n * 2, pause(n, "two", 1.0))
    three = yield from _maybe("three", n * 3, 0.05, 1, retry=Retry(2, initial=0.1))
    pair = _maybe("pair/0/a", n, pause(n, "a", 1.0)), _maybe("pair/1/b", -n, pause(n, "b", 1.0))
    gathered = yield from see("pair", Gather(*pair).opts(name="pair"), whole=True)
    return {"one": one, "two": two, "flaky": three, "gathered": list(gathered)}


@app.workflow
def nap(n: int) -> Flow[int]:
    yield from nap_for("sleep", pick(n, "nap", 30) / 10)
    value = yield from see("add", Step(bodies.add, n, 0, 0.05))
    yield from nap_for("sleep#2", 0)
    yield from nap_for("sleep#3", 0.2)
    return int(value)


@app.workflow
def doomed(n: int) -> Flow[int]:
    yield from see("add", Step(bodies.add, n, 0, 0.1))
    return int((yield from see("broken", Step(bodies.broken).opts(retry=Retry(2, initial=0.05)))))


@app.workflow
def branch(n: int, depth: int) -> Flow[int]:
    if depth == 0:
        return int((yield from see("add", Step(bodies.add, n, 0, pause(n, "leaf")))))
    kids = Gather(*(Invoke(branch, n + k, depth - 1) for k in range(2)))
    return int(sum((yield from see("gather", kids, whole=True))))


@app.workflow
def double(n: int, times: int) -> Flow[int]:
    yield from nap_for("sleep", 0.3)
    return int((yield from see("add", Step(bodies.add, n * (times - 1), n, pause(n, "double")))))


@app.workflow
def bad(n: int, depth: int) -> Flow[int]:
    if depth:
        return int((yield from see("bad", Invoke(bad, n, depth - 1))))
    yield from see("add", Step(bodies.add, n, 0, 0.05))
    raise RuntimeError(f"bad {n}")


def _caught(key: str, depth: int, n: int) -> Generator[Any, Any, str]:
    try:
        yield from see(key, Invoke(bad, n, depth).opts(name=key))
    except ChildFailed as error:
        return type(error).__name__
    return "nothing"


@app.workflow
def family(n: int) -> Flow[dict[str, Any]]:
    first = yield from see("two", Start(double, n, 2).opts(name="two"))
    second = yield from see("three", Start(double, n, 3).opts(name="three"))
    grown = yield from see("branch", Invoke(branch, n, 2))
    said = yield from _caught("shallow", 0, n)
    deep = yield from _caught("deep", 2, n)
    task = yield from see("add", Invoke(bodies.add, n, 7, 0.1))
    named = yield from see("named", Invoke(double, n, 5).opts(name="named", id=f"kid of {current().run_id}"))
    one = yield from see("wait:three", Wait(second).opts(name="wait:three"))
    two = yield from see("wait:two", Wait(first).opts(name="wait:two"))
    started = [two, one]
    return {"tree": grown, "started": started, "bad": said, "deep": deep, "task": task, "named": named}


@app.workflow
def pages(ctx: Context, n: int) -> Flow[dict[str, Any]]:
    count = yield from see("count", Step(bodies.add, pages_of(n), 0, 0.05).opts(name="count"))
    saved = ctx.accumulated_results or {"total": 0, "booked": 0}
    total, booked = saved["total"], saved["booked"]
    for page in range(ctx.checkpoint_cursor or 0, count):
        total += yield from see("add", Step(bodies.add, n, page, pause(n, f"{page}"), page), page)
        yield from nap_for("sleep", pick(n, f"{page}", 3) / 10, page)
        yield from see("book", Transaction(bodies.book, 1, 0, 0.05, page), page)
        booked += 1
        yield Checkpoint(page + 1, page + 1, {"total": total, "booked": booked})
    return {"pages": ctx.checkpoint_items_processed, "total": total, "booked": booked}


@app.workflow
def planned(n: int) -> Flow[int]:
    name = f"every second {n}"
    yield from see(f"schedule:{name}", Schedule(bodies.tick.call(n), name, cron="* * * * * *"))
    yield from nap_for("sleep", 2.2)
    value = yield from see("add", Step(bodies.add, n, 0, pause(n, "planned")))
    yield from see(f"unschedule:{name}", Unschedule(bodies.tick, name))
    return int(value)


@app.workflow
def books(n: int) -> Flow[dict[str, Any]]:
    quick = Retry(3, initial=0.1)
    one = yield from see("book", Transaction(bodies.book, n, 0, pause(n, "book")))
    two = yield from see("book_async", Transaction(bodies.book_async, n + 1, 0, pause(n, "async")))
    three = yield from see("flaky", Transaction(bodies.book, n + 2, 2).opts(name="flaky", retry=quick))
    said = "nothing"
    try:
        yield from see("never", Transaction(bodies.book, n, 9).opts(name="never", retry=Retry(2, initial=0.1)))
    except StepFailed as error:
        said = error.failure.type
    both = Gather(Transaction(bodies.book, n + 3, 0, 0.2), Transaction(bodies.book_async, n + 4, 0, 0.2))
    pair = yield from see("gather", both, whole=True)
    return {"sync": one, "async": two, "flaky": three, "refused": said, "both": list(pair)}


def nested(prefix: str, n: int) -> Generator[Any, Any, list[int]]:
    one = yield from see(f"{prefix}add", Step(bodies.add, n, 1, pause(n, "nested")))
    yield from nap_for(f"{prefix}sleep", 0.3)
    two = yield from see(f"{prefix}add_async", Step(bodies.add_async, n, 2))
    return [one, two]


def _scoped(n: int) -> Generator[Any, Any, int]:
    value = yield from see("wide/add", Step(bodies.add, n, 10, 0.1))
    inner = yield from see("wide/inner", Scope("inner", _deeper(value)), whole=True)
    return int(inner)


def _deeper(value: int) -> Generator[Any, Any, int]:
    return int((yield from see("wide/inner/add_async", Step(bodies.add_async, value, 20))))


@app.workflow
def fan(n: int) -> Flow[dict[str, Any]]:
    everything = Gather(
        Step(bodies.add, n, 0, pause(n, "one")),
        Step(bodies.add_async, n, 10, pause(n, "two")),
        Invoke(double, n, 2),
        nested("gather/3/", n),
        Transaction(bodies.book, n + 5, 0, 0.1),
    )
    done = yield from see("gather", everything, whole=True)
    broken = Step(bodies.broken).opts(retry=Retry(2, initial=0.1))
    some = Gather(broken, Step(bodies.add, n, 0, 0.2), return_exceptions=True)
    mixed = yield from see("gather#2", some, whole=True)
    first = "nothing"
    try:
        losing = Gather(broken, Sleep(30), nested("gather#3/2/", n), Invoke(branch, n, 1))
        yield from see("gather#3", losing, whole=True)
    except StepFailed as error:
        first = type(error).__name__
    scoped = yield from see("wide", Scope("wide", _scoped(n)), whole=True)
    return {
        "all": list(done),
        "some": [mixed[0].type if isinstance(mixed[0], Failure) else mixed[0], mixed[1]],
        "first": first,
        "scoped": scoped,
    }


@app.workflow
def facts(n: int) -> Flow[dict[str, Any]]:
    before = yield from see("now", Now())
    unique = yield from see("uuid", Uuid())
    part = yield from see("random", Random())
    seen = yield from see("add", Step(bodies.add, n, pick(unique.int % 1000, "x", 9), pause(n, "facts")))
    after = yield from see("now#2", Now())
    return {
        "same": seen == n + pick(unique.int % 1000, "x", 9),
        "ordered": before <= after,
        "inside": 0 <= part < 1,
        "n": n,
    }


async def look(key: str, command: Any, *, whole: bool = False) -> Any:
    """`see` for coroutines."""
    value = await command
    _told(key, 0, witness.of_value(_shown(value)), whole)
    return value


@app.workflow
async def coroutine(n: int) -> list[int]:
    one = await look("add", Step(bodies.add, n, 0, pause(n, "one")))
    await look("sleep", Sleep(0.3))
    two = await look("add_async", Step(bodies.add_async, n, 1))
    three = await look("double", Invoke(double, n, 2))
    return [one, two, three]
