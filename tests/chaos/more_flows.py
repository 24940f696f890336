"""More of the workload: clean-up, a second version of the code, large and odd values, poison, bad inputs.

`CHAOS_CODE` says which version of the code a worker has. Both are live at the same time: they yield the same commands,
and one definition is known to the second only, so that its runs wait for a worker that knows it.
"""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

from flowgen import Flow, Retry, Step, StepFailed, Transaction
from tests.chaos import bodies, inside, long_flows, message_flows, wide_flows
from tests.chaos.bodies import app
from tests.chaos.expected import pause, pick
from tests.chaos.flows import nap_for, see

__all__ = ["app"]

assert wide_flows.app is message_flows.app is long_flows.app is app

CODE = int(os.environ.get("CHAOS_CODE", "2"))


@app.workflow
def tidy(n: int) -> Flow[dict[str, Any]]:
    """What is cancelled in the middle cleans up."""
    try:
        one = yield from see("add", Step(bodies.add, n, 0, pause(n, "one")))
        yield from nap_for("sleep", pick(n, "tidy", 15) / 10)
        two = yield from see("add_async", Step(bodies.add_async, n, 1, pause(n, "two")))
    finally:
        yield from see("tidy up", Transaction(bodies.book, n).opts(name="tidy up"))
    return {"one": one, "two": two}


@app.workflow
def deployed(n: int) -> Flow[int]:
    """The two versions of its code differ in all but the commands."""
    if CODE == 1:
        one = yield from see("add", Step(bodies.add, n, 1, pause(n, "one")))
        yield from nap_for("sleep", 0.4)
        two = yield from see("add_async", Step(bodies.add_async, n, 2))
        return int(one + two)
    parts = []
    for key, fn, by in (("add", bodies.add, 1), ("add_async", bodies.add_async, 2)):
        if parts:
            yield from nap_for("sleep", 0.4)
        arguments = (n, by, pause(n, "one")) if not parts else (n, by)
        parts.append((yield from see(key, Step(fn, *arguments))))
    return sum(parts)


if CODE >= 2:

    @app.workflow
    def fresh(n: int) -> Flow[int]:
        """Only the second version has it."""
        return int((yield from see("add", Step(bodies.add, n, 4, pause(n, "fresh")))))


@app.workflow
def heavy(n: int) -> Flow[dict[str, Any]]:
    text = yield from see("blob", Step(bodies.blob, n))
    yield from nap_for("sleep", 0.3)
    size = yield from see("measure", Step(bodies.measure, text))
    said = "nothing"
    try:
        yield from see("too large", Step(bodies.too_large).opts(name="too large"))
    except StepFailed as error:
        said = error.failure.type
    return {"size": size, "too large": said}


@app.workflow
def odd(n: int) -> Flow[dict[str, Any]]:
    """A value that no other call would give, with numbers at the edge of what JSON is; replayed after each sleep."""
    value = yield from see("draw", Step(bodies.draw))
    yield from see("add", Step(bodies.add, n, 0, pause(n, "odd")))
    yield from nap_for("sleep", pick(n, "odd", 8) / 10)
    again = yield from see("draw#2", Step(bodies.draw))
    yield from nap_for("sleep#2", 0.3)
    got = yield from see("add#2", Step(bodies.add, n, 0, pause(n, "even")))
    return {
        "nonce": len(value["z"] if value["z"] != again["z"] else ""),
        "big": value["a"] == 1e22 and isinstance(value["a"], float),
        "zero": str(value["m"]) == "-0.0",
        "many": value["many"] == 2**70,
        "order": [key for key in value if key in "zam"],
        "n": got,
    }


@app.workflow
def slow(n: int) -> Flow[int]:
    """Functions that take about as long as a lease."""
    yield from see("draw", Step(bodies.draw, 1.7 + pause(n, "slow", 0.6)))
    return int((yield from see("add", Step(bodies.add, n, 6, 1.5 + pause(n, "slower", 0.6)))))


@app.workflow
def poison(n: int) -> Flow[int]:
    yield from see("add", Step(bodies.add, n, 0, 0.05))
    yield from see("die", Step(bodies.die))
    return n


@app.workflow
def strange(n: int) -> Flow[dict[str, Any]]:
    """Values that cannot be stored fail their own step, at once."""
    said: dict[str, Any] = {}
    for kind in ("nan", "surrogate", "naive"):
        try:
            yield from see(kind, Step(bodies.strange_value, kind).opts(name=kind, retry=Retry(3)))
        except StepFailed as error:
            said[kind] = error.failure.type
    return {**said, "n": (yield from see("add", Step(bodies.add, n, 0)))}


@app.workflow
def strict(n: int, when: datetime) -> Flow[int]:
    """Started from SQL with what is no date."""
    return int((yield from see("add", Step(bodies.add, n, 0))))


inside.begin()
