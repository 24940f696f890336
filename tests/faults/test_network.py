"""Networks that lose, delay and break what is sent."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import App, Flow, Gather, Invoke, Step, Transaction
from flowgen.client.sync import Client
from flowgen.postgres import answers
from flowgen.testing.workers import Workers
from tests.faults.traffic import Traffic, ledger
from tests.proxy import Proxy
from tests.waiting import eventually

Db = psycopg.Connection[Any]


def add(a: int, b: int) -> int:
    return a + b


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are missed sooner than in production, which only `test_..._within_15_seconds` waits for."""
    monkeypatch.setattr(answers, "SECONDS", 1.0)


def busy(app: App) -> Any:
    """A definition whose runs keep every connection of a worker at work."""

    def pay(conn: Db, n: int) -> int:
        for _ in range(20):
            conn.execute("select 1")
        return n

    @app.task
    def child(n: int) -> int:
        return n

    @app.workflow
    def works(n: int) -> Flow[int]:
        total = 0
        for k in range(4):
            total += yield from Step(add, n, k)
            total += sum((yield from Gather(Transaction(pay, 1), Invoke(child, 1).opts(id=f"child {n} {k}"))))
        return total

    return works


def redialled(proxy: Proxy, names: list[str], seconds: float, then: Callable[[], object]) -> dict[str, float]:
    """Lose the open connections of these names, now; the seconds until each has been replaced."""
    lost_at = time.monotonic()
    for name in names:
        assert proxy.blackhole_open(name) >= 1, name
    then()

    def replaced() -> dict[str, float] | None:
        found: dict[str, float] = {}
        for each in proxy.accepted:
            if each.at > lost_at:
                found.setdefault(each.name, each.at - lost_at)
        return found if set(names) <= found.keys() else None

    return eventually(replaced, timeout=seconds)


LINKS = ["flush", "claim", "control", "attach", "heartbeat", "transaction"]


def check_dead_connections(
    proxy: Proxy, app: App, client: Client, workers: Workers, far_url: str, lease: float
) -> None:
    works = busy(app)
    workers(app, lease=lease)
    runs = [client.start(works, 0)]
    assert runs[0].result(timeout=20) == 14
    more = threading.Event()

    def load() -> None:
        while not more.wait(0.1):
            runs.append(client.start(works, len(runs)))

    loading = threading.Thread(target=load)
    with flowgen.connect(far_url) as far, ThreadPoolExecutor() as pool:
        far.count()
        names = [*(f"flowgen {name}" for name in LINKS), "flowgen client"]
        loading.start()
        try:
            eventually(lambda: len(runs) > 3)
            took = redialled(proxy, names, 60, then=lambda: pool.submit(far.count))
        finally:
            more.set()
            loading.join()
    assert max(took.values()) < 15, took
    assert [run.result(timeout=60) for run in runs] == [4 * n + 14 for n in range(len(runs))]
    assert {run.refresh().recoveries for run in runs} == {0}


@pytest.mark.fault("F54")
def test_connections_that_stand_and_never_answer_are_replaced(
    impatient: None, proxy: Proxy, app: App, flowgen_client: Client, far_worker: Workers, flowgen_database: str
) -> None:
    check_dead_connections(proxy, app, flowgen_client, far_worker, proxy.url(flowgen_database), 6)


@pytest.mark.nightly
@pytest.mark.fault("F54")
def test_connections_that_stand_and_never_answer_are_replaced_within_15_seconds(
    proxy: Proxy, app: App, flowgen_client: Client, far_worker: Workers, flowgen_database: str
) -> None:
    check_dead_connections(proxy, app, flowgen_client, far_worker, proxy.url(flowgen_database), 15)


@pytest.mark.fault("F54")
def test_what_the_server_is_at_work_on_is_waited_for(impatient: None, flowgen_database: str, db: Db) -> None:
    with flowgen.connect(flowgen_database) as client, ThreadPoolExecutor() as pool:
        client.count()
        with db.transaction():
            db.execute("lock table flowgen.run in access exclusive mode")
            waiting = pool.submit(client.count)
            assert not concurrent.futures.wait([waiting], 3).done
        assert waiting.result(20) == 0


@pytest.mark.fault("F53")
def test_polling_alone_keeps_the_latency_when_no_notification_comes(
    proxy: Proxy, app: App, flowgen_client: Client, far_worker: Workers
) -> None:
    @app.task
    def one(n: int) -> int:
        return n

    far_worker(app, lease=60, heartbeat=50, poll=0.5)
    assert flowgen_client.start(one, 0).result(timeout=20) == 0
    eventually(lambda: proxy.blackhole_open("flowgen heartbeat"))
    waits = []
    for n in range(8):
        began = time.monotonic()
        assert flowgen_client.start(one, n).result(timeout=20) == n
        waits.append(time.monotonic() - began)
    assert max(waits) < 0.5 + 1, waits


@pytest.mark.fault("F55")
def test_a_slow_and_flaky_line_costs_time_and_nothing_else(
    proxy: Proxy, app: App, far_worker: Workers, flowgen_database: str, db: Db
) -> None:
    ledger(db)
    with flowgen.connect(proxy.url(flowgen_database)) as client:
        traffic = Traffic(app, client, pause=0.1)
        far_worker(app, lease=10)
        client.count()
        proxy.line(latency=0.1, bandwidth=50_000, resets=0.01)
        with traffic:
            traffic.goes_on(6, 60)
        proxy.pass_through()
        traffic.check(db)
    assert db.execute("select max(recoveries) from flowgen.run").fetchone() == (0,)
    assert db.execute("select count(*) from flowgen.worker").fetchone() == (1,)
