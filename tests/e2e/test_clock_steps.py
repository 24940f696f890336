"""The clock of the database steps back ten minutes, as a failover to a host whose clock is wrong does."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from flowgen import App, Flow, RunQuery, Sleep, Step
from flowgen.client.sync import Client
from flowgen.postgres.database import Schema, connect
from flowgen.postgres.offset_clock import offset_clock
from flowgen.testing.workers import Workers
from tests.waiting import eventually

BACK = -600.0


def step(url: str, seconds: float) -> None:
    conn = connect(url)
    try:
        offset_clock(conn, Schema(), seconds)  # the leases do not go along: nobody tells a clock that is wrong
    finally:
        conn.close()


@pytest.mark.fault("F58")
def test_a_clock_that_steps_back_repeats_no_tick_and_neither_ends_nor_keeps_a_lease(
    app: App,
    db: psycopg.Connection[object],
    flowgen_client: Client,
    flowgen_database: str,
    flowgen_worker: Workers,
) -> None:
    def charge(number: int) -> int:
        return number

    @app.workflow
    def work(number: int) -> Flow[int]:
        for _ in range(3):
            yield Step(charge, number)
            yield Sleep(0.1)
        return number

    @app.workflow
    def awake(number: int) -> Flow[int]:
        for _ in range(3):
            yield Step(charge, number)
        return number

    @app.task(cron="* * * * * *")
    def tick() -> None: ...

    handle = flowgen_worker(app, lease=3, heartbeat=0.5)
    ticks = RunQuery(name="tick", status="completed")
    eventually(lambda: flowgen_client.count(ticks) >= 2, timeout=20)
    # A sleep that has begun ends at its absolute time: never early, and after such a step late.
    first = flowgen_client.start_many([awake.call(number) for number in range(10)])
    step(flowgen_database, BACK)
    second = flowgen_client.start_many([work.call(number) for number in range(10)])
    for runs in (first, second):
        assert [run.result(timeout=30) for run in runs] == list(range(10))
    sessions = "SELECT count(*), count(*) FILTER (WHERE dead) FROM flowgen.worker"
    assert db.execute(sessions).fetchone() == (1, 0), "no lease was over at once"
    far = "SELECT max(lease_until - flowgen.clock()) <= interval '4 seconds' FROM flowgen.worker WHERE NOT dead"
    eventually(lambda: db.execute(far).fetchone() == (True,), timeout=20)
    made = db.execute(
        "SELECT count(*), count(DISTINCT trigger ->> 'scheduled_at') FROM flowgen.run WHERE name = 'tick'"
    )
    all_ticks = made.fetchone()
    assert all_ticks is not None
    assert all_ticks[0] == all_ticks[1], "no tick was made twice"
    handle.stop()
    negative = "SELECT count(*) FROM flowgen.run WHERE finished_at < created_at AND created_at < flowgen.clock()"
    assert db.execute(negative).fetchone() == (0,)
    for run in second:
        done = run.refresh()
        assert done.finished_at is not None
        assert timedelta(0) <= done.finished_at - done.created_at < timedelta(seconds=60)
