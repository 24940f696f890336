"""What the fixtures of the pytest plugin promise to users' tests."""

from __future__ import annotations

from functools import partial

import flowgen
from flowgen import App, Flow, Gather, Retry, Sleep, Step
from flowgen.client.sync import Client
from flowgen.testing.clock import Clock
from flowgen.testing.workers import Workers
from tests.waiting import eventually


def asleep(client: Client, run_id: str, times: int) -> bool:
    return sum(item.kind == "armed" for item in client.history(run_id)) == times


def test_a_run_of_a_worker_fixture_gives_its_typed_result(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow
    def hello(name: str) -> Flow[str]:
        yield Sleep(0.01)
        return f"hello {name}"

    flowgen_worker(app)
    assert flowgen_client.start(hello, "world").result(timeout=10) == "hello world"


def test_an_advanced_clock_ends_a_sleep_and_no_lease(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_clock: Clock
) -> None:
    @app.workflow
    def long(hours: int) -> Flow[str]:
        for _ in range(hours):
            yield Sleep(hours=1)
        return "awake"

    flowgen_worker(app)
    run = flowgen_client.start(long, 3)
    for number in range(1, 4):
        eventually(partial(asleep, flowgen_client, run.id, number))
        flowgen_clock.advance("1h")
    assert run.result(timeout=10) == "awake"
    assert run.refresh().recoveries == 0


def test_an_advanced_clock_ends_a_wait_of_a_run_that_stays_in_memory(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_clock: Clock
) -> None:
    calls: list[int] = []

    def flaky() -> int:
        calls.append(flowgen.current().attempt)
        if len(calls) < 2:
            raise ValueError("not yet")
        return len(calls)

    @app.workflow
    def both() -> Flow[tuple[int, None]]:
        return (yield from Gather(Step(flaky).opts(retry=Retry(2, initial=4.5, jitter=0)), Sleep(4)))

    flowgen_worker(app)
    run = flowgen_client.start(both)
    eventually(lambda: calls)
    eventually(lambda: any(item.kind == "attempt" for item in flowgen_client.history(run.id)))
    flowgen_clock.advance(5)
    assert run.result(timeout=3) == (2, None)
