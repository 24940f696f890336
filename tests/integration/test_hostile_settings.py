"""Settings of a role or a database, and objects of other schemas, change nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import (
    App,
    Checkpoint,
    Context,
    Flow,
    Gather,
    Invoke,
    Now,
    Retry,
    RunQuery,
    Schedule,
    Settings,
    Sleep,
    Start,
    Step,
    Transaction,
    Unschedule,
    Wait,
)
from flowgen.client.sync import Client, connect
from flowgen.testing.clock import Clock
from flowgen.testing.workers import Workers
from tests.environments import hostile
from tests.waiting import eventually

Db = psycopg.Connection[Any]


def everything(app: App) -> Any:
    """A workflow that uses every statement of a worker."""

    def charge(cents: float) -> float:
        return cents

    def fails_once(ctx: flowgen.StepContext) -> int:
        if ctx.attempt == 1:
            raise ValueError("once")
        return ctx.attempt

    def insert(conn: Any, number: int) -> str:
        conn.execute("INSERT INTO mine VALUES (%s)", (number,))
        return str(conn.execute("SELECT current_schema()").fetchone()[0])

    @app.workflow
    def child(number: int) -> Flow[int]:
        yield Sleep(0.05)
        return number

    @app.workflow
    def work(ctx: Context) -> Flow[Any]:
        began = yield from Now()
        total = yield from Step(charge, 1e22)
        schema = yield from Transaction(insert, 7)
        attempt = yield from Step(fails_once).opts(retry=Retry(2, initial=0.05))
        numbers = yield from Gather(Invoke(child, 1), Invoke(child, 2).opts(id=f"of {ctx.run_id}"))
        third = yield from Start(child, 3)
        yield Schedule(child.call(4), "yearly", cron="0 0 1 1 *", timezone="Asia/Tokyo")
        yield Unschedule(child, "yearly")
        yield Sleep(0.1)
        fourth = yield from Wait(third)
        for number in range(ctx.checkpoint_cursor or 0, 3):
            yield Step(charge, float(number))
            yield Checkpoint(number + 1)
        return [total, schema, attempt, *numbers, fourth, began > datetime(2020, 1, 1, tzinfo=UTC)]

    @app.task(cron="0 0 * * *")
    def nightly() -> None: ...

    return work


EXPECTED = [1e22, "hostile", 2, 1, 2, 3, True]


@pytest.mark.fault("F59", "F60")
@pytest.mark.parametrize("pooler", [False, True], ids=["direct", "pooler"])
def test_hostile_settings_and_objects_change_nothing(
    flowgen_database: str, flowgen_worker: Workers, flowgen_clock: Clock, pooler: bool
) -> None:
    with psycopg.connect(flowgen_database, autocommit=True) as conn:
        # PostgreSQL's own objects come first unless somebody puts them last; then nobody can be sure behind a pooler
        hostile.disturb(conn, **({"search_path": "hostile, public"} if pooler else {"client_encoding": "LATIN1"}))
        conn.execute("CREATE TABLE hostile.mine (n pg_catalog.int4)")
    app = App()
    work = everything(app)
    with connect(flowgen_database, app=app, settings=Settings(pooler=pooler)) as client:
        handle = flowgen_worker(app, pooler=pooler)
        runs = client.start_many([work.call() for _ in range(3)])
        named = client.start(work.call().opts(id="order-1", tags=["a", "\u20ac"], queue="q", correlation_id="c"))
        assert client.start(work.call().opts(id="order-1")).attached
        for run in (*runs, named):
            assert run.result(timeout=60) == EXPECTED
        every_verb(client, work, flowgen_database)
        flowgen_clock.advance("25h")
        eventually(lambda: client.count(RunQuery(name="nightly", status="completed")) == 1)
        handle.stop()
    ages = (datetime.now(UTC) - run.created_at for run in (*runs, named))
    assert all(timedelta(0) <= age < timedelta(minutes=10) for age in ages)


def every_verb(client: Client, work: Any, url: str) -> None:
    (found,) = client.list(RunQuery(tags=["\u20ac", "a"], queue="q", name="work", status="completed", root_only=True))
    assert (found.id, found.correlation_id) == ("order-1", "c")
    assert client.count(RunQuery(parent="order-1")) == 3
    assert "completed" in str(client.why("order-1"))
    assert client.trace("order-1").items
    assert client.history("order-1")[0].name == "now"
    later = client.start(work.call().opts(id="later", delay="1d"))
    assert (client.pause("later").status, client.resume("later").status) == ("paused", "pending")
    due, deadline = later.due_at, client.set_deadline("later", "2d").deadline
    assert due is not None
    assert deadline is not None
    assert timedelta(hours=47) < deadline - datetime.now(UTC) < timedelta(hours=49)
    assert client.cancel("later", "no").status == "cancelled"
    with psycopg.connect(url, client_encoding="utf8") as conn:
        client.start(work.call().opts(id="lent"), conn=conn)
        conn.execute("""SELECT flowgen.start('work', '{}', id => 'by sql')""")
    for id in ("lent", "by sql"):
        assert client.result(id, timeout=60) == EXPECTED
