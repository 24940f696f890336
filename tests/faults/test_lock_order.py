"""Who locks what in which order: operations that meet on the same runs never wait for each other in a circle."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import App, Flow, Gather, Invoke, Sleep, Step
from flowgen.client.sync import Client
from flowgen.errors import FlowgenError
from flowgen.postgres import claims, database, workers
from flowgen.testing.workers import Workers
from tests.waiting import eventually

Db = psycopg.Connection[Any]

ROUNDS = 6


def deadlocks(db: Db) -> int:
    db.execute("select pg_stat_clear_snapshot()")
    row = db.execute("select deadlocks from pg_stat_database where datname = current_database()").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.fault("F46")
def test_no_two_operations_on_one_family_of_runs_deadlock(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_database: str, db: Db
) -> None:
    """Each pair begins at a barrier, on a parent whose children complete, wake it and are cancelled all the while."""

    def step(n: int) -> int:
        return n

    @app.workflow
    def child(n: int) -> Flow[int]:
        yield Sleep(0.02 * (n % 5))
        return (yield from Step(step, n))

    @app.workflow
    def parent(n: int) -> Flow[list[int]]:
        return list((yield from Gather(*[Invoke(child, k) for k in range(6)])))

    schema = database.Schema("flowgen")

    def sweep(_: str) -> None:
        with database.connect(flowgen_database) as conn:
            database.run(conn, workers.reap(), schema)
            database.run(conn, claims.promote(100), schema)
            database.run(conn, claims.put_back(), schema)

    operations: dict[str, Callable[[str], object]] = {
        "cancel": flowgen_client.cancel,
        "pause": flowgen_client.pause,
        "resume": flowgen_client.resume,
        "start": lambda _: flowgen_client.start_many([parent.call(n).opts(id=f"again {n}") for n in (3, 1, 2)]),
        "signal": lambda run: flowgen_client.signal(run, "go", run),
        "set deadline": lambda run: flowgen_client.set_deadline(run, 60),
        "sweep": sweep,
    }
    for _ in range(2):
        flowgen_worker(app, lease=10, poll=0.02)
    before = deadlocks(db)
    pairs = [*itertools.combinations_with_replacement(operations, 2)] * ROUNDS

    def meet(numbered: tuple[int, tuple[str, str]]) -> None:
        number, pair = numbered
        run = flowgen_client.start(parent.call(number).opts(id=f"family {number}"))
        eventually(lambda: run.refresh().status != "pending")
        barrier = threading.Barrier(2)

        def act(name: str) -> None:
            barrier.wait(30)
            try:
                operations[name](run.id)
            except flowgen.DatabaseError:
                raise
            except FlowgenError:  # it has ended meanwhile, or stands
                pass

        with ThreadPoolExecutor(2) as two:
            for done in [two.submit(act, name) for name in pair]:
                done.result(60)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(meet, each) for each in enumerate(pairs)]:
            done.result(100)
    eventually(
        lambda: db.execute("select count(*) from flowgen.run where status in (0, 3)").fetchone() == (0,), timeout=40
    )
    assert deadlocks(db) == before
