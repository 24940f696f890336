"""What was committed and never told: each kind of commit of a worker and of a client, over a real wire."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import App, Flow, Sleep, Step
from flowgen.client.queries import RunQuery
from flowgen.testing.workers import Workers
from tests.faults.traffic import Traffic, ledger
from tests.proxy import Proxy
from tests.waiting import eventually

Db = psycopg.Connection[Any]

LOSSES = {
    "flush of entries": ("flowgen flush", r"\.flush_entries\("),
    "flush of entries and rows": ("flowgen flush", r"\.flush\(.*p_eager"),
    "flush with children": ("flowgen flush", r"\.flush\((?!.*p_eager)"),
    "claim": ("flowgen claim", r"\.claim\("),
    "Transaction": ("flowgen transaction", r"finish_transaction"),
    "child with an id": ("flowgen attach", r"attach_child\("),
    "heartbeat": ("flowgen heartbeat", r"lease_until ="),
    "look": ("flowgen control", r"\.care\("),
    "start": ("flowgen client", r"insert into \S+run "),
}


@pytest.mark.fault("F33")
def test_every_commit_whose_answer_is_lost_counts_once(
    app: App, proxy: Proxy, far_worker: Workers, flowgen_database: str, db: Db
) -> None:
    ledger(db)
    with flowgen.connect(proxy.url(flowgen_database)) as client:
        traffic = Traffic(app, client, pause=0.02)
        far_worker(app, lease=30, heartbeat=0.5)
        with traffic:
            for _ in range(2):
                losses = {name: proxy.lose_next_ack(what, to) for name, (to, what) in LOSSES.items()}
                for name, loss in losses.items():
                    assert loss.happened.wait(30), name
        traffic.check(db)
    assert not traffic.unknown
    assert db.execute("select count(*), max(recoveries) from flowgen.run").fetchone()[1] == 0
    assert db.execute("select count(*) from flowgen.worker").fetchone() == (1,)


@pytest.mark.fault("F33")
def test_a_tick_a_cancel_and_a_release_whose_answers_are_lost_happen_once(
    app: App, proxy: Proxy, far_worker: Workers, flowgen_database: str, db: Db
) -> None:
    @app.task(cron="* * * * * *")
    def tick() -> None:
        pass

    calls: list[str] = []

    @app.workflow
    def waits() -> Flow[str]:
        try:
            yield Sleep("1h")
        finally:
            yield from Step(calls.append, "cancelled")
        return ""

    with flowgen.connect(proxy.url(flowgen_database)) as client:
        ticked = proxy.lose_next_ack("^commit", "flowgen control", after=r"update \S+schedule")
        worker = far_worker(app, lease=30)
        run = client.start(waits)
        eventually(lambda: run.refresh().status == "waiting")
        cancelled = proxy.lose_next_ack("with recursive tree", "flowgen client")
        client.cancel(run.id)
        cancelled.wait()
        with pytest.raises(flowgen.RunCancelled):
            run.result(timeout=20)
        ticked.wait()
        done = client.count(RunQuery(name="tick"))
        eventually(lambda: client.count(RunQuery(name="tick")) > done + 1)
        released = proxy.lose_next_ack(r"\.release_runs\(", "flowgen control")
        worker.stop()
        released.wait()
    assert calls == ["cancelled"]
    times = db.execute("select (trigger->>'scheduled_at')::timestamptz from flowgen.run where name = 'tick'").fetchall()
    assert len(set(times)) == len(times)
    assert db.execute("select count(*) from flowgen.run where status = 3").fetchone() == (0,)
