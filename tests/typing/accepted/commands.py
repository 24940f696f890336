"""The types of what commands come to, in the spellings of generators."""

from __future__ import annotations

from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from typing import Any, assert_type
from uuid import UUID

from psycopg import AsyncConnection, Connection

import flowgen
from flowgen import (
    Call,
    Checkpoint,
    Choose,
    Command,
    CompletionToken,
    Context,
    ContinueAsNew,
    Cron,
    Emit,
    Failure,
    Flow,
    Gather,
    Graph,
    GraphResult,
    Invoke,
    Now,
    On,
    Patch,
    Race,
    Random,
    Retry,
    RunRef,
    Saga,
    Schedule,
    Scope,
    SetDeadline,
    SetProgress,
    Signal,
    Sleep,
    Start,
    Step,
    StepContext,
    Token,
    Transaction,
    Unschedule,
    Uuid,
    Wait,
    WaitEvent,
    WaitSignal,
    task,
    workflow,
)
from flowgen.flows import BatchResult, Range, batch
from flowgen.flows import poll as poll_until


class Services:
    tax: int = 19


@task
def charge(order_id: str, cents: int) -> str:
    return f"ch_{order_id}_{cents}"


@task(
    name="refund",
    queue="payments",
    retry=Retry(5),
    timeout="30s",
    config={"a": 1},
    priority=3,
    cron="0 9 * * *",
    window="22:00-06:00",
)
def refund(order_id: str = "o", cents: int = 5) -> str:
    return ""


@task
async def ship(ctx: StepContext[Services], order_id: str) -> bytes:
    return b""


@task(queue="q")
async def pack(order_id: str) -> bytes:
    return b""


@task
def reserve(ctx: StepContext) -> int:
    return 1


@task
def poll(ctx: StepContext, n: int) -> Flow[float]:
    yield Sleep(2)
    return 1.0


@task
def poll_with_context(ctx: Context, n: int) -> Flow[float]:
    yield Sleep("1h")
    return 1.0


@task
def nothing() -> None:
    return None


@task
def many(*args: int) -> str:
    return ""


@workflow
def checkout(order_id: str) -> Flow[str]:
    receipt = yield from Step(charge, order_id, cents=500)
    assert_type(receipt, str)
    yield Sleep(seconds=2)
    return receipt


@workflow(
    name="refunds",
    deadline="1d",
    determinism="strict",
    cron=[Cron("@daily", args={"n": 1}), "@hourly"],
    window=[flowgen.Window("22:00", "06:00", timezone="Europe/Berlin")],
)
async def refunds(ctx: Context[Services], n: int = 0) -> float:
    assert_type(await Sleep(seconds=1), None)
    assert_type(await Step(charge, "o", 500), str)
    assert_type(await Invoke(checkout, "o"), str)
    assert_type(await Gather(Step(charge, "o", 5), refunds(3)), tuple[str, float])
    assert_type(await Scope("inner", checkout("o")), str)
    assert_type(await Now(), datetime)
    return 1.0


def plain(x: str) -> int:
    return 1


async def plain_async(x: str) -> int:
    return 1


@task
def save(conn: Connection, n: int) -> int:
    return n


async def save_async(conn: AsyncConnection[Any], n: int) -> int:
    return n


def helper(n: int) -> Flow[list[int]]:
    yield Sleep(1)
    return [n]


@workflow
def calls(ctx: Context[Services], n: int) -> Flow[int]:
    assert_type((yield from Step(charge, "o", 500)), str)
    assert_type((yield from Step(ship, "o").opts(timeout="3s", name="first")), bytes)
    assert_type((yield from Step(pack, "o")), bytes)
    assert_type((yield from Step(reserve)), int)
    assert_type((yield from Step(many, 1, 2, 3)), str)
    assert_type((yield from Step(plain, "o").opts(retry=Retry(5), at_most_once=True, config={"a": 1})), int)
    assert_type((yield from Step(plain_async, x="o")), int)
    assert_type((yield from Transaction(save, 3)), int)
    assert_type((yield from Transaction(save_async, n=3).opts(timeout=timedelta(seconds=3))), int)
    assert_type((yield from helper(3)), list[int])
    assert_type((yield from checkout("o")), str)
    yield from Step(nothing)
    untyped: str = yield Step(charge, "o-1", 500)
    return len(untyped)


@workflow
def facts() -> Flow[None]:
    assert_type((yield from Now()), datetime)
    assert_type((yield from Uuid()), UUID)
    assert_type((yield from Random()), float)
    assert_type((yield from SetProgress({"done": 1})), None)
    assert_type((yield from SetDeadline("1h")), None)
    assert_type((yield from SetDeadline(None)), None)
    assert_type((yield from Patch("new-way")), bool)
    yield from Sleep(2)
    yield from Sleep("1h30m").opts(name="nap")
    yield from Sleep(timedelta(days=1))
    yield from Sleep(days=1, hours=2, minutes=0.5)
    yield from Sleep(until=datetime(2030, 1, 1, tzinfo=UTC))
    yield Checkpoint()
    yield Checkpoint(3, 3, {"n": 1})
    yield Checkpoint(cursor="a", items_processed=2)


@workflow
def children(n: int) -> Flow[None]:
    assert_type((yield from Invoke(checkout, "o")), str)
    assert_type((yield from Invoke(refunds, 1)), float)
    assert_type((yield from Invoke(charge, "o", cents=3).opts(queue="z", priority=1, tags=["a"], id="x")), str)
    assert_type((yield from Invoke(poll, 3).opts(timeout=3, on_timeout="abandon")), float)
    assert_type((yield from Invoke("by-name", 1, a=2)), Any)
    ref = yield from Start(checkout, "o").opts(detached=True)
    assert_type(ref, RunRef[str])
    assert_type((yield from Wait(ref).opts(timeout="1h", on_timeout="cancel")), str)
    assert_type((yield from Start("by-name", a=2)), RunRef[Any])
    yield from Schedule(charge.call("o", 5), "daily", cron="0 9 * * *", timezone="Europe/Berlin")
    yield from Schedule(flowgen.call("checkout", order_id="o"), "nightly", cron="@daily")
    yield from Unschedule(charge, "daily")
    yield from Unschedule("charge", "daily")


@workflow
def messages(ref: RunRef[str]) -> Flow[None]:
    assert_type((yield from WaitSignal("approve")), Any)
    assert_type((yield from WaitSignal("approve", int, timeout="1h")), int)
    assert_type((yield from WaitSignal("approve", list[str])), list[str])
    assert_type((yield from WaitSignal("approve", int | None)), Any)
    assert_type((yield from Signal("order-1", "approve", {"by": "ann"})), None)
    yield from Signal(ref, "approve")
    token = yield from CompletionToken(int, timeout=60)
    assert_type(token, Token[int])
    assert_type((yield from Wait(token)), int)
    assert_type((yield from Wait(token).opts(timeout="1h")), int)
    assert_type((yield from CompletionToken()), Token[Any])
    assert_type((yield from Gather(WaitSignal("a", int), WaitSignal("b", str))), tuple[int, str])
    assert_type(str(token), str)


@task(on="order.paid")
def pack_paid(ctx: StepContext, id: int, cents: int = 0) -> bytes:
    return b""


@workflow(on=[On("order.paid", when={"cents": {"ge": 100}}, fields=["status", "owner.id"]), "order.lost"])
async def follow(id: int, **more: Any) -> str:
    assert_type(await Emit("followed", {"id": id}), str)
    return ""


@task(on=On("order.paid", fields="status"))
def triggered(**payload: Any) -> Flow[None]:
    yield Sleep(1)


@workflow
def events() -> Flow[None]:
    assert_type((yield from WaitEvent("paid")), Any)
    assert_type((yield from WaitEvent("paid", {"order.id": 7, "total": {"gt": 3}}, timeout="1h")), Any)
    assert_type((yield from WaitEvent("paid", where={"a": {"in": [1, 2]}}).opts(name="first")), Any)
    assert_type((yield from Emit("told")), str)
    assert_type((yield from Emit("told", {"n": [1]}).opts(name="tell")), str)
    assert_type((yield from Gather(Emit("a"), WaitEvent("b"))), tuple[str, Any])
    won = yield from Race(told=Emit("a"), also=Emit("b"))
    assert_type(won.value, str)
    assert_type((yield from Step(pack_paid, 7)), bytes)
    assert_type((yield from Invoke(follow, 7, more=1)), str)


@workflow
def composites(n: int) -> Flow[None]:
    assert_type((yield from Gather(Step(charge, "o", 5))), tuple[str])
    assert_type((yield from Gather(Step(charge, "o", 5), checkout("o"))), tuple[str, str])
    assert_type((yield from Gather(helper(1), Step(plain, "o"), Sleep(1))), tuple[list[int], int, None])
    four = yield from Gather(Step(charge, "o", 5), checkout("o"), refunds(2), Invoke(refunds, 1))
    assert_type(four, tuple[str, str, float, float])
    assert_type((yield from Gather(*[checkout(str(i)) for i in range(9)])), tuple[str, ...])
    assert_type((yield from Gather(*[Invoke(refunds, i) for i in range(9)])), tuple[float, ...])
    kept = yield from Gather(*[checkout("o")], return_exceptions=True)
    assert_type(kept, tuple[str | Failure, ...])
    two = yield from Gather(Step(charge, "o", 5), Step(plain, "x"), return_exceptions=True)
    assert_type(two, tuple[str | Failure, int | Failure])
    assert_type((yield from Scope("inner", checkout("o"))), str)
    assert_type((yield from Saga(checkout("o"))), str)
    assert_type((yield from Step(plain, "o").opts(compensate=lambda n: Sleep(n))), int)
    assert_type((yield from Step(plain, "o").opts(compensate=Step(plain, "undo"))), int)
    assert_type((yield from Invoke(checkout, "o").opts(compensate=lambda text: Step(plain, text.upper()))), str)
    assert_type((yield from Scope("inner", refunds(1))), float)
    assert_type((yield from Scope("inner", Step(plain, "o"))), int)


@task
def triage(ctx: StepContext) -> Choose:
    return Choose(reserve, "ship")


def has_reserve(done: GraphResult) -> bool:
    return reserve in done


@workflow
def graphs(ctx: Context[Services]) -> Flow[int]:
    done = yield from Graph(
        Step(triage),
        Step(reserve).opts(after=triage),
        Step(ship, "o").opts(after=[triage, "reserve"], when=has_reserve, join="any_success"),
        Step(plain_async, "o").opts(when=lambda done: done[reserve] > 3),
        Step(plain, "o").opts(name="plain", after=plain_async),
        Invoke(checkout, "o").opts(after=[plain, refunds]),
        Sleep(2).opts(name="pause", after="plain", join="all_done"),
        Scope("refunds", refunds(3)).opts(after=["pause"]),
    )
    assert_type(done, GraphResult)
    assert_type(done[reserve], int)
    assert_type(done[ship], bytes)
    assert_type(done[checkout], str)
    assert_type(done[plain_async], int)
    assert_type(done[plain], int)
    assert_type(done["reserve"], Any)
    assert_type(dict(done.skipped), dict[str, str])
    assert_type(dict(done.failed), dict[str, Failure])
    assert_type(list(done), list[str])
    return done[reserve] if "reserve" in done else 0


@task
def whole(done: BatchResult[int], source: str) -> list[float]:
    return [done.success_rate, *done.results, *[each.part.start for each in done.failures]]


@task
async def whole_later(done: BatchResult[str]) -> bytes:
    return b""


@workflow
def part_of(part: Range, source: str) -> Flow[int]:
    assert_type(part.end - part.start, int)
    yield Sleep(1)
    return part.end


@workflow
def flows() -> Flow[None]:
    assert_type((yield from batch(reserve, part_of, whole, "s", workers=3)), list[float])
    assert_type((yield from batch(plain, part_of, whole_later, size=10, on_failure="continue", limit=3)), bytes)
    assert_type((yield from batch(plain, part_of, plain_async, size=10, as_runs=True)), int)
    assert_type((yield from poll_until(charge, "o", 3, until=lambda found: found == "x", every="3s")), str)
    assert_type(
        (yield from poll_until(ship, "o", until=lambda found: len(found) > 1, every=3, backoff=2, maximum=60)), bytes
    )
    assert_type((yield from poll_until(plain_async, "o", until=lambda found: found > 3, every=3, timeout="1h")), int)


# calling a definition does what its function does
assert_type(charge("o-1", 500), str)
assert_type(checkout("o-1"), Generator[Command[Any], Any, str])
assert_type(reserve(), int)
assert_type(poll_with_context(3), Generator[Command[Any], Any, float])
assert_type(refund(), str)
# and a call is inert
assert_type(charge.call("o-1", cents=500), Call[str])
assert_type(ship.call("o"), Call[bytes])
assert_type(checkout.call("o").opts(id="order", priority=4, delay="5m", tags=["a"], queue="q"), Call[str])
assert_type(refunds.call().opts(at=datetime(2030, 1, 1, tzinfo=UTC), deadline=60, correlation_id="c"), Call[float])
assert_type(flowgen.call("checkout", order_id="o-1"), Call[Any])
assert_type(Step(charge, "o", 5), Step[str])


@workflow
def endless(n: int) -> Flow[str]:
    if n > 3:
        return "enough"
    return (yield from ContinueAsNew(n + 1))


async def endless_too(n: int) -> str:
    return await ContinueAsNew(n + 1)
