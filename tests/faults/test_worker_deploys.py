"""Workers that come and go while there is work, and sweeps that meet what has just begun."""

from __future__ import annotations

import random
import signal
import threading
from collections import Counter
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import App, Flow, Step
from flowgen.client.sync import Client
from flowgen.failpoints import evicting
from flowgen.postgres import database, workers
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program

Db = psycopg.Connection[Any]


@pytest.mark.fault("F25")
def test_ten_overlapping_deploys_strand_no_run_and_run_no_step_twice(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    calls: Counter[tuple[int, int]] = Counter()
    dice = random.Random(25)
    pause = threading.Event()

    def step(n: int, k: int) -> int:
        calls[n, k] += 1
        pause.wait(0.005)
        return k

    @app.workflow
    def five(n: int) -> Flow[int]:
        total = 0
        for k in range(5):
            total += yield from Step(step, n, k)
        return total

    current = flowgen_worker(app, lease=60, poll=0.05, concurrency=4)
    runs = []
    for deploy in range(10):
        runs += flowgen_client.start_many([five.call(deploy * 100 + n) for n in range(20)])
        following = flowgen_worker(app, lease=60, poll=0.05, concurrency=4)
        pause.wait(dice.uniform(0, 0.05))
        current.stop()
        current = following
    assert [run.result(timeout=30) for run in runs] == [10] * 200
    assert set(calls.values()) == {1}
    assert {run.refresh().recoveries for run in runs} == {0}


@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.fault("F25")
def test_fifty_overlapping_deploys_of_processes_strand_no_run_and_run_no_step_twice(
    program: Program, flowgen_client: Client
) -> None:
    program.write(
        """
def step(n, k):
    note(f"{n}.{k}")
    time.sleep(0.005)
    return k

@workflow
def five(n: int) -> Flow[int]:
    total = 0
    for k in range(5):
        total += yield from Step(step, n, k)
    return total
""",
        settings="Settings(lease=60, poll=0.05)",
        more="concurrency=4",
    )
    dice, pause = random.Random(50), threading.Event()
    current = program.start()
    runs = []
    for deploy in range(50):
        runs += flowgen_client.start_many([flowgen.call("five", n=deploy * 100 + n) for n in range(20)])
        following = program.start()
        pause.wait(dice.uniform(0, 0.3))
        current.signal(signal.SIGTERM)
        assert current.ended(60) == 0
        current = following
    assert [run.result(timeout=60) for run in runs] == [10] * 1000
    assert set(Counter(program.notes()).values()) == {1}
    assert {run.refresh().recoveries for run in runs} == {0}


@pytest.mark.fault("F26")
def test_a_sweep_every_ten_milliseconds_adopts_nothing_that_has_an_owner(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_database: str, db: Db
) -> None:
    calls: Counter[int] = Counter()
    done = threading.Event()
    swept: list[int] = []

    def step(n: int) -> int:
        calls[n] += 1
        return n

    @app.workflow
    def one(n: int) -> Flow[int]:
        return (yield from Step(step, n))

    def sweep() -> None:
        conn = database.connect(flowgen_database)
        while not done.wait(0.01):
            swept.append(database.run(conn, workers.reap(), database.Schema()).released)
        conn.close()

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for _ in range(2):
            flowgen_worker(app, lease=5, poll=0.05)
        runs = []
        for batch in range(20):
            runs += flowgen_client.start_many([one.call(batch * 100 + n) for n in range(100)])
        assert [run.result(timeout=30) for run in runs] == [*range(2000)]
    finally:
        done.set()
        sweeper.join(10)
    assert len(swept) > 10
    assert set(swept) == {0}
    assert set(calls.values()) == {1}
    assert db.execute("select distinct claim, recoveries from flowgen.run").fetchall() == [(1 + evicting(), 0)]
