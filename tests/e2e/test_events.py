"""Events: emitted from anywhere, told once to everybody who waits, and starting what they trigger."""

from __future__ import annotations

import threading
from typing import Any

import psycopg

from flowgen import App, Flow, Step, WaitEvent
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.waiting import eventually

Db = psycopg.Connection[Any]


def waits(db: Db) -> int:
    row = db.execute("select count(*) from flowgen.event_wait where not fresh").fetchone()
    assert row is not None
    return int(row[0])


def test_an_event_before_during_and_after_the_registration_is_delivered_once(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    begun, go = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert go.wait(30)

    @app.workflow
    def listens() -> Flow[list[Any]]:
        yield Step(work)
        heard = []
        for _ in range(3):
            heard.append((yield from WaitEvent("news", {"kind": "x"})))
        return heard

    flowgen_worker(app)
    run = flowgen_client.start(listens)
    assert begun.wait(10)
    flowgen_client.emit("news", {"kind": "y", "n": 0})
    flowgen_client.emit("news", {"kind": "x", "n": 1})
    go.set()
    eventually(lambda: waits(db) == 1)
    flowgen_client.emit("news", {"kind": "x", "n": 2})
    flowgen_client.emit("news", {"kind": "x", "n": 3})
    assert [each["n"] for each in run.result(timeout=20)] == [1, 2, 3]
    assert db.execute("select count(*) from flowgen.event_wait").fetchone() == (0,)
