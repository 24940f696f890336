"""Workflows whose histories are kept, so that every later release still reads them. They never change."""

from __future__ import annotations

from typing import Any

from flowgen import (
    App,
    Checkpoint,
    ChildFailed,
    Context,
    Flow,
    Gather,
    Invoke,
    Now,
    Random,
    Retry,
    Schedule,
    Scope,
    Sleep,
    Start,
    Step,
    StepFailed,
    Transaction,
    Unschedule,
    Uuid,
    Wait,
    current,
)

app = App(name="golden")


def add(a: int, b: int) -> int:
    return a + b


async def add_async(a: int, b: int) -> int:
    return a + b


def flaky(fails: int) -> int:
    if current().attempt <= fails:
        raise ValueError(f"attempt {current().attempt}")
    return current().attempt


def book(conn: Any, amount: int) -> int:
    conn.execute("SELECT 1")
    return amount


@app.task
def double(n: int) -> int:
    return 2 * n


@app.task(retry=Retry(1))
def broken(n: int) -> int:
    raise ValueError(f"no {n}")


@app.workflow
def steps(n: int) -> Flow[list[int]]:
    one = yield from Step(add, n, 1)
    two = yield from Step(add_async, n, 2)
    three = yield from Step(add, n, 3).opts(name="third")
    four = yield from Step(flaky, 2).opts(retry=Retry(3, initial=0.01))
    five = yield from Transaction(book, n)
    six = yield from Step(add, n, 6).opts(at_most_once=True, retry=Retry(1))
    return [one, two, three, four, five, six]


@app.workflow
def failures(n: int) -> Flow[list[str]]:
    said = []
    try:
        yield from Step(flaky, 9).opts(retry=Retry(2, initial=0.01))
    except StepFailed as error:
        said.append(str(error.failure))
    try:
        yield from Invoke(broken, n)
    except ChildFailed as error:
        said.append(type(error).__name__)
    return said


@app.workflow
def waits(n: int) -> Flow[int]:
    yield from Sleep(0.01)
    first = yield from Start(double, n)
    second = yield from Invoke(double, n + 1)
    yield from Schedule(double.call(1), "yearly", cron="0 0 1 1 *")
    yield from Unschedule(double, "yearly")
    return second + (yield from Wait(first))


def nested(n: int) -> Flow[int]:
    one = yield from Step(add, n, 10)
    yield from Sleep(0.01)
    return one + (yield from Step(add, n, 20))


@app.workflow
def branches(n: int) -> Flow[list[Any]]:
    together = yield from Gather(Step(add, n, 1), nested(n), Invoke(double, n)).opts(name="all")
    scoped = yield from Scope("inner", nested(n + 1))
    return [*together, scoped]


@app.workflow
def pages(ctx: Context, n: int) -> Flow[int]:
    count = yield from Step(add, n, 2)
    total = (ctx.accumulated_results or {"total": 0})["total"]
    for page in range(ctx.checkpoint_cursor or 0, count):
        total += yield from Step(add, n, page)
        yield Checkpoint(page + 1, page + 1, {"total": total})
    return total


@app.workflow
def facts(n: int) -> Flow[bool]:
    before = yield from Now()
    unique = yield from Uuid()
    share = yield from Random()
    after = yield from Now()
    return before <= after and unique.version == 4 and 0 <= share < 1


INPUTS = {"steps": 3, "failures": 4, "waits": 5, "branches": 6, "pages": 2, "facts": 1}
