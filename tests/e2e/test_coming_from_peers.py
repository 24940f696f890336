"""What the pages for who comes from DBOS, Temporal and Azure Durable Functions show, with real workers."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import (
    App,
    Flow,
    Race,
    RunNotFound,
    RunQuery,
    Signal,
    Sleep,
    Start,
    Step,
    WaitSignal,
    Winner,
)
from flowgen.client.sync import Client
from flowgen.testing import replay
from flowgen.testing.clock import Clock
from flowgen.testing.workers import Workers
from tests.unit.test_docs import PYTHON
from tests.waiting import eventually


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the n-th program of a page, with an App for what it defines; gives its names."""

    def run(page: str, place: int, app: App) -> dict[str, Any]:
        monkeypatch.setattr(flowgen, "task", app.task)
        monkeypatch.setattr(flowgen, "workflow", app.workflow)
        block = [each for each in PYTHON if each.page == f"docs/coming-from/{page}.md"][place]
        names: dict[str, Any] = {"__name__": page}
        exec(compile(block.code, str(block), "exec", dont_inherit=True), names)
        return names

    return run


def test_the_programs_of_the_pages_run_on_a_worker(
    app: App, shown: Any, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    dbos, azure, temporal = (shown(page, 0, app) for page in ("dbos", "azure-durable-functions", "temporal"))
    flowgen_worker(app)
    order = flowgen_client.start(dbos["process_order"].call("o-1").opts(id="order-1"))
    cities = flowgen_client.start(azure["hello_cities"])
    approved, refused = flowgen_client.start_many([temporal["greeting"].call("World")] * 2)
    for run, said in ((approved, True), (refused, False)):
        flowgen_client.signal(run.id, "approve", said)
    assert order.result(timeout=20) == ["receipt of o-1", "o-1 is on its way"]
    assert cities.result(timeout=20) == ["Hello Tokyo!", "Hello Seattle!", "Hello Cairo!"]
    assert approved.result(timeout=20) == "Hello, World!"
    assert refused.result(timeout=20) == "refused"
    awaited = shown("temporal", 1, App())
    assert replay(awaited["greeting"], flowgen_client.trace(approved.id)) == "Hello, World!"


def test_an_entity_is_a_run_that_reads_its_operations_as_signals(
    app: App, shown: Any, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    counter = shown("azure-durable-functions", 1, app)["counter"]
    flowgen_worker(app)
    with pytest.raises(RunNotFound):
        flowgen_client.signal("counter-a", "add", 5)
    run = flowgen_client.start(counter.call(0).opts(id="counter-a"))
    for operation in (5, 37):
        flowgen_client.signal("counter-a", "add", operation)
    eventually(lambda: flowgen_client.get("counter-a").progress == 42)
    flowgen_client.signal("counter-a", "add", None)
    assert run.result(timeout=20) == 42


def test_a_run_is_started_and_sent_a_signal_in_one_transaction(
    app: App, shown: Any, flowgen_client: Client, flowgen_worker: Workers, db: psycopg.Connection[Any]
) -> None:
    greeting = shown("temporal", 0, app)["greeting"]
    flowgen_worker(app)
    for name in ("Ann", "Bob"):
        with db.transaction() as transaction:
            flowgen_client.start(greeting.call(name).opts(id=name), conn=db)
            flowgen_client.signal(name, "approve", True, conn=db)
            if name == "Bob":
                raise psycopg.Rollback(transaction)
    assert flowgen_client.result("Ann", timeout=20) == "Hello, Ann!"
    assert flowgen_client.count(RunQuery()) == 1


def test_a_handler_starts_a_child_by_its_id_and_signals_it(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow
    def child() -> Flow[bool]:
        return (yield from WaitSignal("approve", bool))

    @app.workflow
    def parent() -> Flow[None]:
        yield Start(child).opts(id="child-1")
        yield Signal("child-1", "approve", True)

    flowgen_worker(app)
    flowgen_client.start(parent).result(timeout=20)
    assert flowgen_client.result("child-1", timeout=20) is True


def test_a_step_is_bounded_over_all_of_its_attempts_by_a_race(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_clock: Clock
) -> None:
    calls: list[int] = []

    def fetch() -> None:
        calls.append(1)
        raise OSError("away")

    @app.workflow
    def bounded() -> Flow[str]:
        first: Winner[Any] = yield Race(
            done=Step(fetch).opts(retry=flowgen.Retry(100, initial="10m", jitter=0)), late=Sleep("1h")
        )
        return first.tag

    flowgen_worker(app)
    run = flowgen_client.start(bounded)
    eventually(lambda: calls == [1] and run.refresh().status == "waiting")
    flowgen_clock.advance("2h")
    assert run.result(timeout=20) == "late"
