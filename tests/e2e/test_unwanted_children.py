"""Children that nobody wants any more are cancelled, also when their parent and its worker are gone meanwhile."""

from __future__ import annotations

import threading
from typing import Any

import psycopg

from flowgen import (
    App,
    ChildCancelled,
    ChildFailed,
    ChildTimedOut,
    Flow,
    Invoke,
    Map,
    PermanentError,
    Race,
    RunQuery,
    Sleep,
    Start,
    Step,
    Wait,
    WaitSignal,
)
from flowgen.client.sync import Client
from flowgen.core.decision import UNWANTED
from flowgen.testing.workers import Workers
from tests.waiting import eventually


def test_a_child_that_nobody_wants_is_cancelled_although_its_row_was_locked_until_its_parents_worker_was_gone(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_database: str
) -> None:
    """The parents have ended, but for one, which waits. What a parent only started lives on after it."""
    locked = threading.Event()

    @app.workflow
    def child(of: str) -> Flow[None]:
        yield Sleep(hours=1)

    @app.workflow
    def item(fails: bool) -> Flow[None]:
        if fails:
            yield Step(locked.wait, 20).opts(name="locked")
            raise PermanentError("no")
        yield Sleep(hours=1)

    @app.workflow
    def raced() -> Flow[str]:
        yield Start(child, "started")
        return (yield from Race(loser=Invoke(child, "raced"), locked=Step(locked.wait, 20).opts(name="locked"))).tag

    @app.workflow
    def mapped() -> Flow[str]:
        try:
            yield Map(item, [True, False])
        except ChildFailed:
            return "failed"
        return "no"

    @app.workflow
    def timed_out(goes_on: bool) -> Flow[str]:
        ref = yield from Start(child, "goes on" if goes_on else "timed out")
        yield Step(locked.wait, 20).opts(name="locked")
        try:
            yield Wait(ref).opts(timeout=0.01)
        except ChildTimedOut:
            return (yield from WaitSignal("end", str)) if goes_on else "timed out"
        return "no"

    first = flowgen_worker(app)
    ends = {flowgen_client.start(raced): "locked", flowgen_client.start(mapped): "failed"}
    ends[flowgen_client.start(timed_out, False)] = "timed out"
    waits = flowgen_client.start(timed_out, True)
    eventually(lambda: flowgen_client.count(RunQuery(status="waiting", name=["child", "item"])) == 5)
    with psycopg.connect(flowgen_database) as conn:
        conn.execute("SELECT FROM flowgen.run WHERE status = 4 AND name IN ('child', 'item') FOR UPDATE")
        locked.set()
        for run, end in ends.items():
            assert run.result(timeout=20) == end
        eventually(lambda: [each for each in flowgen_client.history(waits.id) if each.outcome == "timeout"])
        first.stop()
    flowgen_worker(app)
    eventually(lambda: flowgen_client.count(RunQuery(name=["child", "item"], status="cancelled")) == 4)
    (alive,) = flowgen_client.list(RunQuery(name="child", status="waiting"))
    assert alive.input == {"of": "started"}
    flowgen_client.signal(waits.id, "end", "done")
    assert waits.result(timeout=20) == "done"


def test_a_timed_out_child_is_thrown_as_that_by_whoever_takes_over_from_an_owner_that_had_cancelled_it(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: psycopg.Connection[Any]
) -> None:
    """The owner was lost after the cancellation of the child, and before the commit that says that it timed out."""

    @app.workflow
    def child() -> Flow[None]:
        yield Sleep(hours=1)

    @app.workflow
    def parent() -> Flow[str]:
        try:
            yield Invoke("child").opts(timeout=0.6, queue="others")
        except (ChildCancelled, ChildTimedOut) as error:
            return type(error).__name__
        return "no"

    first = flowgen_worker(app, queues=["default"])
    run = flowgen_client.start(parent)
    eventually(lambda: flowgen_client.count(RunQuery(name="child")) == 1)
    first.stop()
    eventually(lambda: db.execute("SELECT FROM flowgen.entry WHERE due_at < flowgen.clock()").rowcount)
    db.execute("SELECT flowgen.cancel_some(array_agg(run_id), %s) FROM flowgen.run WHERE name = 'child'", (UNWANTED,))
    flowgen_worker(app, queues=["default"])
    assert run.result(timeout=20) == "ChildTimedOut"
