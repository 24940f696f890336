"""Workflows that go several ways at once: Map, Race, Graph, and what undoes them when they fail."""

from __future__ import annotations

from typing import Any

from flowgen import (
    Choose,
    Flow,
    Gather,
    Graph,
    GraphResult,
    Invoke,
    Map,
    PermanentError,
    Race,
    Retry,
    Saga,
    Sleep,
    Step,
    StepFailed,
    Transaction,
    WaitSignal,
)
from tests.chaos import bodies
from tests.chaos.bodies import app, spend, witnessed
from tests.chaos.expected import fails_in_the_end, items_of, pause, pick
from tests.chaos.flows import branch, double, nap_for, nested, see

__all__ = ["app"]


def grow(item: int) -> int:
    with witnessed() as told:
        spend(pause(item, "grow"))
        told.value = item + 1
    return item + 1


async def shaky(item: int) -> int:
    with witnessed() as told:
        if item % 3 == 0:
            raise PermanentError(f"not {item}")
        told.value = item * 2
    return item * 2


@app.workflow
def twin(n: int) -> Flow[int]:
    yield from nap_for("sleep", 0.2)
    return int((yield from see("add", Step(bodies.add, n, n, pause(n, "twin")))))


@app.workflow
def mapped(n: int) -> Flow[dict[str, Any]]:
    items = items_of(n)
    grown = yield from see("map", Map(grow, items, limit=2), whole=True)
    some = yield from see("map#2", Map(shaky, items, on_failure="continue"), whole=True)
    runs = yield from see("map#3", Map(twin, items[:3], limit=2), whole=True)
    return {"grown": grown, "some": [getattr(each, "message", each) for each in some], "runs": runs}


@app.workflow
def raced(n: int) -> Flow[dict[str, Any]]:
    first = Race(
        quick=Step(bodies.add, n, 0, pause(n, "quick", 0.3)),
        slow=Step(bodies.add_async, n, 5, pause(n, "slow", 0.3)),
        child=Invoke(double, n, 3),
        late=Sleep(60),
    )
    one = yield from see("race", first, whole=True)
    after = yield from see("add", Step(bodies.add, n, 1, pause(n, "after")))
    second = Race(
        flow=nested("race#2/flow/", n), tree=Invoke(branch, n, 1), book=Transaction(bodies.book, n, 0, 0.4),
        never=WaitSignal("never"),
    )  # fmt: skip
    two = yield from see("race#2", second, whole=True)
    yield from nap_for("sleep", 0.3)
    return {"first": [one.tag, one.value], "after": after, "second": [two.tag, two.value]}


def judge(n: int) -> Choose:
    with witnessed():
        spend(pause(n, "judge"))
    return Choose("left") if n % 2 else Choose("right", "extra")


@app.workflow
def woven(n: int) -> Flow[dict[str, Any]]:
    def is_rare(done: GraphResult) -> bool:
        return n % 3 == 0

    nodes = Graph(
        Step(judge, n).opts(name="judge"),
        Step(bodies.add, n, 1, pause(n, "left")).opts(name="left", after="judge"),
        Step(bodies.add_async, n, 2, pause(n, "right")).opts(name="right", after="judge"),
        Invoke(double, n, 2).opts(name="extra", after="judge"),
        Transaction(bodies.book, n + 3, 0, 0.05).opts(name="both", after=["left", "right"], join="any_success"),
        Step(bodies.add, n, 4).opts(name="rare", after="both", when=is_rare),
        Step(bodies.broken).opts(name="broken", retry=Retry(2, initial=0.05)),
        Step(bodies.add, n, 5, 0.05).opts(name="end", after=["rare", "broken", "extra"], join="all_done"),
    ).opts(name="graph")
    done = yield from see("graph", nodes, whole=True)
    results = {name: done[name] for name in done if name != "judge"}
    return {"done": results, "skipped": sorted(done.skipped), "failed": sorted(done.failed)}


def by_rail(n: int) -> Flow[int]:
    booked = Step(bodies.add, n, 3).opts(name="rail", compensate=Transaction(bodies.book, n))
    yield from see("saga/rail", booked)
    return int((yield from see("saga/no", Step(bodies.refused).opts(name="no"))))


@app.workflow
def trip(n: int) -> Flow[list[int]]:
    """Undone when it fails, and when it is cancelled."""
    hotel = Step(bodies.add, n, 1, pause(n, "hotel")).opts(name="hotel", compensate=Transaction(bodies.book, n))
    done = [(yield from see("hotel", hotel))]
    flight = Transaction(bodies.book, n, 0, 0.05)
    flight = flight.opts(name="flight", compensate=lambda value: Step(bodies.add, value, 0, 0.1))
    done.append((yield from see("flight", flight)))
    try:
        yield from see("saga", Saga(by_rail(n)), whole=True)
    except StepFailed:
        done.append(-1)
    car = Invoke(double, n, 2).opts(name="car", compensate=Transaction(bodies.book, n, 0, 0.1))
    pair = yield from see("gather", Gather(car, Step(bodies.add_async, n, 0, 0.1)), whole=True)
    yield from nap_for("sleep", pick(n, "trip", 10) / 10)
    if fails_in_the_end(n):
        yield from see("no", Step(bodies.refused).opts(name="no"))
    return [*done, *pair]
