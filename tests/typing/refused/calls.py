"""Calls that both checkers must refuse: each line that ends in the mark has an error, and no other has."""

from __future__ import annotations

from typing import Any

from psycopg import Connection

import flowgen
from flowgen import (
    App,
    Checkpoint,
    Context,
    Emit,
    Flow,
    Gather,
    Graph,
    Invoke,
    On,
    Retry,
    RunQuery,
    RunRef,
    Schedule,
    Scope,
    Sleep,
    Start,
    Step,
    StepContext,
    Transaction,
    Unschedule,
    Wait,
    WaitEvent,
    task,
    workflow,
)


@task
def charge(order_id: str, cents: int) -> str:
    return ""


@task
async def ship(ctx: StepContext, order_id: str) -> bytes:
    return b""


@task
def poll(n: int) -> Flow[float]:
    yield Sleep(2)
    return 1.0


@workflow
def checkout(ctx: Context, order_id: str) -> Flow[str]:
    yield Sleep(1)
    return ""


def save(conn: Connection, n: int) -> int:
    return n


def plain(x: str) -> int:
    return 1


Step(charge, 1, 2)  # refused
Step(charge, "x")  # refused
Step(charge, "x", 3, 4)  # refused
Step(charge, "x", cent=3)  # refused
Step(ship, 3)  # refused
Step(ship, None, "o")  # refused
Step(plain, 3)  # refused
Step("charge", "o", 3)  # refused
Step(charge, "x", 3).opts(nme="x")  # refused
Step(charge, "x", 3).opts(retry=3)  # refused
Step(charge, "x", 3).opts(timeout=None, queue="q")  # refused
Transaction(save, "x")  # refused
Transaction(plain, "x")  # refused
Transaction(save)  # refused
Invoke(charge, 3, 3)  # refused
Invoke(checkout)  # refused
Invoke(plain, "x")  # refused
Invoke(checkout, "o").opts(on_timeout="stop")  # refused
Invoke(checkout, "o").opts(detached=True)  # refused
Start(checkout, 3)  # refused
Start(checkout, "o").opts(timeout=3)  # refused
Wait("ref")  # refused
Wait(Start(checkout, "o"))  # refused
Sleep(second=3)  # refused
Sleep(until="tomorrow")  # refused
Sleep([3])  # refused
Checkpoint(1, "two")  # refused
Schedule(charge, "daily", cron="@daily")  # refused
Schedule(charge.call("o", 3), "daily")  # refused
Unschedule(charge)  # refused
Gather(charge, ship)  # refused
Gather(3, Step(charge, "o", 3))  # refused
Scope(checkout("o"))  # refused
Graph(charge)  # refused
Graph([Step(charge, "o", 3)])  # refused
Graph(Step(charge, "o", 3).opts(after=3))  # refused
Graph(Step(charge, "o", 3).opts(when="yes"))  # refused
Graph(Step(charge, "o", 3).opts(join="any"))  # refused
Scope("inner", charge)  # refused
Emit()  # refused
Emit(3)  # refused
Emit(name="told")  # refused
WaitEvent()  # refused
WaitEvent(3)  # refused
WaitEvent("paid", "order")  # refused
WaitEvent("paid", {7: 1})  # refused
WaitEvent("paid", timeout=[3])  # refused
WaitEvent("paid").opts(retry=Retry(3))  # refused
On()  # refused
On("paid", when="order")  # refused
On("paid", fields=3)  # refused
task(on=3)  # refused
workflow(on=[3])  # refused
charge("o")  # refused
charge.call("x")  # refused
charge.call("x", 3).opts(nme="x")  # refused
charge.call("x", 3, id="e")  # refused
checkout.call(3)  # refused
checkout(None, "o")  # refused
flowgen.call(3)  # refused
flowgen.call("checkout", "o")  # refused
task(3)  # refused
task(nme="x")  # refused
task(deadline=3)  # refused
task(retry=5)  # refused
task(concurrency=3)  # refused
workflow(timeout=3)  # refused
workflow(determinism="loose")  # refused
App(servces=3)  # refused
Retry("many")  # refused


@workflow  # refused
def not_a_handler(x: int) -> int:
    return 1


def in_a_handler(ctx: Context, ref: RunRef[int]) -> Flow[None]:
    text: str = yield from Wait(ref)  # refused
    number: int = yield from Step(charge, "o", 3)  # refused
    a, b, c = yield from Gather(Step(charge, "o", 3), Sleep(2))  # refused
    ctx.checkpoint_items_processed = 3  # refused
    ctx.heartbeat()  # refused
    ctx.get_input()  # refused
    told: int = yield from Emit("told")  # refused
    left: Any = (text, number, a, b, c, told)
    del left


def wrong_result() -> Flow[int]:
    yield Sleep(2)
    return "text"  # refused


def yields_a_value() -> Flow[int]:
    yield 3  # refused
    return 1


async def awaits_a_value() -> None:
    value: int = await Step(charge, "o", 3)  # refused
    del value


def clients(client: flowgen.Client) -> None:
    client.start(charge, "o-1", "x")  # refused
    client.start(charge, "o-1")  # refused
    client.start(charge, "o-1", 3, id="e")  # refused
    client.start_many([1])  # refused
    client.get(1)  # refused
    client.list(RunQuery(sort="size"))  # refused
    client.set_deadline("o-1", None)  # refused
    client.emit(3)  # refused
    client.emit("paid", {}, "c-1")  # refused
    flowgen.run(queues=3)  # refused
    flowgen.worker(processes=2)  # refused
