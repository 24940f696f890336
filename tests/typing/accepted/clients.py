"""The types of clients, workers and the testing kit."""

from __future__ import annotations

from typing import Any, assert_type

from psycopg import Connection

import flowgen
from flowgen import AsyncRun, Cancelled, Flow, Page, Run, RunQuery, Settings, Sleep, Step, Trace, task, workflow
from flowgen.testing import drive, replay


@task
def charge(order_id: str, cents: int) -> str:
    return f"ch_{order_id}_{cents}"


@workflow
def checkout(order_id: str) -> Flow[str]:
    receipt = yield from Step(charge, order_id, cents=500)
    yield Sleep(seconds=2)
    return receipt


def clients(conn: Connection[Any]) -> None:
    with flowgen.connect() as client:
        run = client.start(checkout.call("o-1").opts(id="order-o-1"))
        assert_type(run, Run[str])
        assert_type(run.result(timeout=30), str)
        assert_type(client.start(charge, "o-1", cents=3), Run[str])
        assert_type(client.start(checkout.call("o-1"), conn=conn), Run[str])
        assert_type(client.start_many([checkout.call(str(n)) for n in range(3)]), list[Run[str]])
        assert_type(client.start(flowgen.call("checkout", order_id="o-1")), Run[Any])
        assert_type(client.get("order-o-1"), Run[Any])
        assert_type(client.get("order-o-1", checkout), Run[str])
        assert_type(client.list(RunQuery(root_only=True, sort="-created_at")), Page[Run[Any]])
        assert_type(client.count(RunQuery(name="checkout")), int)
        client.cancel("order-o-1", reason="not wanted", by="ann")
        client.pause("order-o-1")
        client.resume("order-o-1", by="ann")
        client.set_deadline("order-o-1", "1h30m")
        client.retry("order-o-1", from_scratch=False)
        client.accept("order-o-1", by="ada", reason="it is right")
        print(client.why("order-o-1"), client.history("order-o-1"))
        assert_type(run.refresh(), Run[str])
        client.signal("order-o-1", "approve", {"by": "ann"})
        client.complete("flowgen_...", 5)
        client.fail("flowgen_...", ValueError("declined"))
        assert_type(client.emit("paid", {"id": 7}), str)
        assert_type(client.emit("paid", conn=conn), str)


async def clients_of_asyncio() -> None:
    async with flowgen.connect_async("postgresql://localhost/shop") as client:
        run = await client.start(checkout.call("o-1"))
        assert_type(run, AsyncRun[str])
        assert_type(await run.result(timeout="30s"), str)
        assert_type(await client.emit("paid", {"id": 7}), str)


def workers() -> None:
    flowgen.run("postgresql://localhost/shop", queues=["default"], concurrency=4, processes=2, drain=True, migrate=True)
    with flowgen.worker(settings=Settings(lease="5s", schema="shop")):
        pass


def tests() -> None:
    trace = drive(checkout.call("o-1"), outcomes={charge: "ch_1"})
    assert_type(trace.result, str)
    assert trace.commands == [Step(charge, "o-1", cents=500), Sleep(seconds=2)]
    with drive.manual(checkout.call("o-1")) as d:
        assert d.command == Step(charge, "o-1", cents=500)
        d.send("ch_1")
        d.throw(Cancelled())
    replay(checkout, Trace.load("tests/traces/order-o-1.json"))
