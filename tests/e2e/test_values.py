"""Values survive the rows: what a handler is sent on its first run is what every replay is sent."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import attrs
import pytest

from flowgen import App, Flow, Invoke, RunFailed, Sleep, Step
from flowgen.client.sync import Client
from flowgen.failpoints import evicting
from flowgen.testing.workers import Workers


class Colour(Enum):
    RED = "red"


@attrs.frozen
class Order:
    id: UUID
    at: datetime
    price: Decimal
    colour: Colour
    blob: bytes
    tags: set[str]


VALUES: list[Any] = [
    "\0", "a\0b\u2400c", "\\u0000", "\U0001f9e8", "", "x" * 300_000, '"; DROP TABLE run; --', "%s %b {} $1", "\x1b[31m",
    1e22, -0.0, 5e-324, 1.7976931348623157e308, 2**63, -(2**64), 10**400, 0.1, True, None,
    {"z": 1, "a": {"\0": [1, {"": None}]}}, [], {}, {"result": 1, "error": 2, "$type": "Order", "status": "failed"},
]  # fmt: skip


def same(one: Any, two: Any) -> bool:
    if isinstance(one, float):
        return isinstance(two, float) and math.copysign(1, one) == math.copysign(1, two) and one == two
    if isinstance(one, dict):
        return list(one) == list(two) and all(same(one[key], two[key]) for key in one)
    return type(one) is type(two) and bool(one == two)


def echo(value: Any) -> Any:
    return value


@pytest.mark.bad_input("B3", "B7", "B9", "B12", "B24")
def test_values_pass_through_inputs_steps_children_and_results_unchanged(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.task
    def child(value: Any) -> Any:
        return value

    @app.workflow
    def chain(value: Any) -> Flow[Any]:
        value = yield from Step(echo, value)
        yield Sleep(0.001)
        value = yield from Invoke(child, value)
        yield Sleep(0.001)
        return value

    flowgen_worker(app, cache=0)
    runs = flowgen_client.start_many([chain.call(value) for value in VALUES])
    for value, run in zip(VALUES, runs, strict=True):
        assert same(run.result(timeout=20), value), repr(value)[:100]
        assert same(run.refresh().input, {"value": value})


@pytest.mark.bad_input("B6", "B10", "B13")
def test_typed_values_are_what_their_annotations_say(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    order = Order(
        UUID(int=7),
        datetime(2026, 10, 25, 2, 30, 1, 5, tzinfo=timezone(timedelta(hours=2))),
        Decimal("1.10"),
        Colour.RED,
        b"\0\xff",
        {"a", "b"},
    )

    def price(order: Order) -> Order:
        assert isinstance(order.price, Decimal)
        return attrs.evolve(order, price=order.price * 2)

    @app.workflow
    def buy(order: Order) -> Flow[Order]:
        order = yield from Step(price, order)
        yield Sleep(0.001)
        return (yield from Step(price, order))

    flowgen_worker(app, cache=0)
    run = flowgen_client.start(buy, order)
    assert run.result(timeout=10) == attrs.evolve(order, price=Decimal("4.40"))


@pytest.mark.bad_input("B2", "B5", "B13")
@pytest.mark.parametrize("value", ["\ud800", float("nan"), float("inf"), {"a": ["\udfff"]}, datetime(2026, 1, 1)])
def test_what_cannot_be_stored_exactly_is_refused_and_says_where(
    app: App, flowgen_client: Client, flowgen_worker: Workers, value: Any
) -> None:
    def give() -> Any:
        return {"here": [value]}

    @app.workflow
    def bad() -> Flow[Any]:
        return (yield from Step(give))

    flowgen_worker(app)
    with pytest.raises(RunFailed, match=r"the result of give .*\$\.here\[0\]"):
        flowgen_client.start(bad).result(timeout=10)


@pytest.mark.bad_input("B42")
def test_a_handler_that_changes_a_value_changes_no_history(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    def items() -> list[int]:
        return [1]

    @app.workflow
    def mutates() -> Flow[list[int]]:
        found = yield from Step(items)
        found.append(len(found) + 1)
        yield Sleep(0.001)
        found.append(len(found) + 1)
        yield Sleep(0.001)
        return found

    flowgen_worker(app, cache=0)
    assert flowgen_client.start(mutates).result(timeout=10) == [1, 2, 3]


@pytest.mark.bad_input("B17")
def test_two_thousand_steps_are_resumed(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    calls: list[int] = []
    count = 200 if evicting() else 2000  # each eviction replays all of them

    def step(n: int) -> str:
        calls.append(n)
        return f"{n}" * 100

    @app.workflow
    def long() -> Flow[int]:
        for n in range(count):
            yield Step(step, n)
            if n % 500 == 99:
                yield Sleep(0.001)
        return len(calls)

    flowgen_worker(app, cache=0)
    assert flowgen_client.start(long).result(timeout=60) == count
    assert calls == [*range(count)]
