"""`ctx.signal`: whoever does not want a function's result any more, the function hears of it, and why."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import psycopg
import pytest
from psycopg import AsyncConnection

import flowgen
from flowgen import (
    App,
    Cancelled,
    Flow,
    PermanentError,
    Race,
    Retry,
    RunCancelled,
    RunFailed,
    Sleep,
    Step,
    StepContext,
    StepTimedOut,
    Transaction,
)
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.waiting import eventually

Db = psycopg.Connection[Any]


class Waiting:
    """Functions that wait for their signal, and what they heard."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.heard: list[tuple[str, str | None, str]] = []
        self.enough = threading.Event()

    def sync(self, ctx: StepContext, what: str) -> str:
        self.begun.append(what)
        while not ctx.signal.wait(0.2) and not self.enough.is_set():
            ctx.heartbeat()
        try:
            ctx.signal.raise_if_aborted()
        except Cancelled as error:
            self.heard.append((what, ctx.signal.reason, str(error)))
        with pytest.raises(Cancelled):
            ctx.progress(1)
        return "too late"

    async def awaited(self, ctx: StepContext, what: str) -> str:
        self.begun.append(what)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.heard.append((what, ctx.signal.reason, str(ctx.signal.aborted)))
            raise
        return "too late"


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


@pytest.mark.parametrize("flavour", ["sync", "awaited"])
def test_a_function_hears_of_a_cancel_a_timeout_a_deadline_and_a_lost_race(
    app: App, flowgen_client: Client, flowgen_worker: Workers, waiting: Waiting, flavour: str
) -> None:
    function = getattr(waiting, flavour)

    @app.task(name="task")
    def task(ctx: StepContext, what: str) -> str:
        return waiting.sync(ctx, what)

    @app.workflow
    def flow(what: str) -> Flow[Any]:
        try:
            timeout = 0.2 if what == "timeout" else 3600
            step = Step(function, what).opts(name=what, timeout=timeout, retry=Retry(1))
            return (yield from Race(step=step, nap=Sleep(0.2 if what == "race" else 3600))).tag
        except StepTimedOut as error:
            return type(error).__name__

    flowgen_worker(app)
    called = flowgen_client.start(task, "task")
    cancelled, late = flowgen_client.start(flow, "cancel"), flowgen_client.start(flow.call("late").opts(deadline=1))
    timed, raced = flowgen_client.start(flow, "timeout"), flowgen_client.start(flow, "race")
    eventually(lambda: set(waiting.begun) == {"task", "cancel", "late", "timeout", "race"})
    for run in (called, cancelled):
        flowgen_client.cancel(run.id, reason="not needed")
        with pytest.raises(RunCancelled, match="not needed"):
            run.result(timeout=20)
    with pytest.raises(RunFailed, match="RunTimedOut"):
        late.result(timeout=20)
    assert [timed.result(timeout=20), raced.result(timeout=20)] == ["StepTimedOut", "nap"]
    told = {
        "cancel": "cancelled: not needed",
        "task": "cancelled: not needed",
        "late": "deadline",
        "timeout": "timeout",
        "race": "its branch was cancelled",
    }
    eventually(lambda: len(waiting.heard) == 5)
    assert {what: reason for what, reason, _ in waiting.heard} == told
    if flavour == "sync":
        assert {what: said for what, _, said in waiting.heard} == told
    assert len(waiting.begun) == 5, "nothing is called again"


def test_a_function_hears_of_a_shutdown_and_is_called_again_without_a_failed_attempt(
    app: App, flowgen_client: Client, flowgen_worker: Workers, waiting: Waiting
) -> None:
    attempts: list[int] = []

    @app.workflow
    def flow(flavour: str) -> Flow[int]:
        return (yield from Step(look, flavour).opts(retry=Retry(1)))

    def look(ctx: StepContext, flavour: str) -> int:
        if attempts:
            attempts.append(ctx.attempt)
            return ctx.attempt
        waiting.sync(ctx, flavour)
        return 0

    @app.task(retry=Retry(1))
    async def awaited(ctx: StepContext) -> int:
        if not attempts:
            await waiting.awaited(ctx, "awaited")
        attempts.append(ctx.attempt)
        return ctx.attempt

    first = flowgen_worker(app, grace=0.3, lease=60)
    runs = [flowgen_client.start(flow, "sync"), flowgen_client.start(awaited)]
    eventually(lambda: set(waiting.begun) == {"sync", "awaited"})
    first.stop()
    eventually(lambda: len(waiting.heard) == 2)
    assert {what: reason for what, reason, _ in waiting.heard} == {"sync": "shutdown", "awaited": "shutdown"}
    attempts.append(0)
    flowgen_worker(app)
    assert [run.result(timeout=20) for run in runs] == [1, 1], "long before the first worker's lease would have ended"
    assert [item.kind for run in runs for item in flowgen_client.history(run.id)] == ["outcome", "outcome"]


@pytest.mark.parametrize("flavour", ["sync", "awaited"])
def test_a_function_hears_that_the_lease_was_lost_and_what_it_then_returns_is_nobodys(
    app: App, flowgen_client: Client, flowgen_worker: Workers, waiting: Waiting, db: Db, flavour: str
) -> None:
    again = threading.Event()
    function = getattr(waiting, flavour)

    def other() -> str:
        again.set()
        return "by the next owner"

    @app.workflow
    def flow() -> Flow[str]:
        return (
            yield from Step(other if waiting.heard else function, *([] if waiting.heard else ["it"])).opts(name="it")
        )

    flowgen_worker(app, lease=2, heartbeat=0.1)
    run = flowgen_client.start(flow)
    eventually(lambda: waiting.begun == ["it"])
    db.execute("update flowgen.worker set dead = true")
    eventually(lambda: len(waiting.heard) == 1)
    assert waiting.heard[0][:2] == ("it", "the lease was lost")
    assert run.result(timeout=20) == "by the next owner"
    assert again.is_set()


@pytest.mark.parametrize("flavour", ["sync", "awaited"])
def test_a_transaction_hears_it_too_and_what_it_wrote_is_taken_back(
    app: App, flowgen_client: Client, flowgen_worker: Workers, waiting: Waiting, db: Db, flavour: str
) -> None:
    db.execute("create table ledger (what text)")
    insert = "insert into ledger values (%s)"

    def pay(conn: Db, what: str) -> str:
        conn.execute(insert, (what,))
        return waiting.sync(flowgen.current().of_step(), what)

    async def pay_awaited(conn: AsyncConnection[Any], what: str) -> str:
        await conn.execute(insert, (what,))
        return await waiting.awaited(flowgen.current().of_step(), what)

    @app.workflow
    def flow(what: str) -> Flow[Any]:
        function: Any = pay if flavour == "sync" else pay_awaited
        once = Transaction(function, what).opts(timeout=0.2 if what == "timeout" else 3600, retry=Retry(1))
        try:
            return (yield from Race(pay=once, nap=Sleep(0.2 if what == "race" else 3600))).tag
        except StepTimedOut as error:
            return type(error).__name__

    worker = flowgen_worker(app, grace=0.3)
    runs = {what: flowgen_client.start(flow, what) for what in ("cancel", "timeout", "race", "deadline", "shutdown")}
    eventually(lambda: set(waiting.begun) == set(runs))
    flowgen_client.cancel(runs["cancel"].id, reason="not needed")
    flowgen_client.set_deadline(runs["deadline"].id, 0.1)
    assert [runs[what].result(timeout=20) for what in ("timeout", "race")] == ["StepTimedOut", "nap"]
    eventually(lambda: runs["cancel"].refresh().status == "cancelled")
    eventually(lambda: runs["deadline"].refresh().status == "failed")
    worker.stop()
    eventually(lambda: len(waiting.heard) == 5)
    assert {what: reason for what, reason, _ in waiting.heard} == {
        "cancel": "cancelled: not needed",
        "timeout": "timeout",
        "race": "its branch was cancelled",
        "deadline": "deadline",
        "shutdown": "shutdown",
    }
    assert db.execute("select * from ledger").fetchall() == []
    assert runs["shutdown"].refresh().status == "pending"


def test_a_function_that_nobody_aborts_hears_nothing(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    @app.task
    def work(ctx: StepContext) -> list[Any]:
        ctx.signal.raise_if_aborted()
        return [ctx.signal.wait(0.01), ctx.signal.aborted, ctx.signal.reason]

    def fails() -> None:
        raise PermanentError("beside it")

    @app.workflow
    def flow() -> Flow[list[Any]]:
        try:
            yield Step(fails)
        except Exception:
            return (yield from Step(work))
        return []

    worker = flowgen_worker(app)
    runs = [flowgen_client.start(work), flowgen_client.start(flow)]
    assert [run.result(timeout=20) for run in runs] == [[False, False, None]] * 2
    worker.stop()
