"""What docs/coming-from/postgres-conductor.md says of ours and no other test proves."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import (
    App,
    Context,
    Flow,
    Invoke,
    Retry,
    RunFailed,
    RunQuery,
    Schedule,
    Sleep,
    Step,
    StepContext,
    Unschedule,
)
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program
from tests.waiting import eventually


def test_a_step_is_stored_at_its_first_call_and_a_retried_task_is_given_it(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    calls: list[str] = []

    def fetch() -> list[int]:
        calls.append("fetch")
        return [1, 2]

    def process(data: list[int]) -> int:
        calls.append("process")
        if calls.count("process") == 1:
            raise ValueError("once")
        return sum(data)

    @app.task(name="multi-step", retry=Retry(2, initial=0.01))
    def multi_step() -> Flow[dict[str, int]]:
        data = yield from Step(fetch)
        return {"result": (yield from Step(process, data).opts(retry=Retry(1)))}

    flowgen_worker(app)
    run = flowgen_client.start(multi_step)
    assert run.result(timeout=20) == {"result": 3}
    assert calls == ["fetch", "process", "process"]
    stored = [
        (item.name, item.value)
        for item in flowgen_client.history(run.id)
        if item.kind == "outcome" and item.error is None
    ]
    assert stored == [("fetch", [1, 2]), ("process", 3)]


def test_neither_a_sleep_nor_a_child_keeps_the_only_place_of_a_worker(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    may_end = threading.Event()

    @app.workflow
    def sleeper() -> Flow[None]:
        yield Sleep(hours=1)

    @app.workflow
    def child() -> Flow[None]:
        yield Sleep(hours=1)

    @app.workflow
    def parent() -> Flow[None]:
        yield Invoke(child)

    @app.task
    def other() -> str:
        may_end.set()
        return "done"

    flowgen_worker(app, concurrency=1)
    waiting = flowgen_client.start_many([sleeper.call(), parent.call(), sleeper.call(), parent.call()])
    eventually(lambda: all(run.refresh().status == "waiting" for run in waiting))
    assert flowgen_client.start(other).result(timeout=20) == "done"
    assert {run.refresh().status for run in waiting} == {flowgen.RunStatus.WAITING}


def test_children_one_after_the_other_and_no_step_or_child_is_repeated(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    calls: list[str] = []

    @app.task
    def stage(name: str) -> str:
        calls.append(name)
        return name

    def note() -> str:
        calls.append("note")
        return "noted"

    @app.workflow
    def orchestrator() -> Flow[list[str]]:
        noted = yield from Step(note)
        done = [noted]
        for name in ("validate", "process", "notify"):
            done.append((yield from Invoke(stage, name).opts(name=f"step-{name}")))
        return done

    flowgen_worker(app, cache=0)
    run = flowgen_client.start(orchestrator)
    assert run.result(timeout=20) == ["noted", "validate", "process", "notify"]
    assert calls == ["note", "validate", "process", "notify"]
    children = [*flowgen_client.list(RunQuery(parent=run.uuid, sort="created_at"))]
    assert len(children) == 3
    for before, after in zip(children, children[1:], strict=False):
        assert before.finished_at is not None
        assert before.finished_at <= after.created_at


def test_a_child_that_is_late_fails_its_parent_with_the_timeout(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow(name="external-api-call")
    def call(url: str) -> Flow[None]:
        yield Sleep(hours=1)

    @app.workflow
    def parent() -> Flow[Any]:
        return (yield Invoke("external-api-call", url="https://api.example.com").opts(name="fetch-data", timeout=0.2))

    flowgen_worker(app)
    run = flowgen_client.start(parent)
    with pytest.raises(RunFailed, match="Child run timed out: external-api-call"):
        run.result(timeout=20)
    eventually(lambda: flowgen_client.count(RunQuery(name="external-api-call", status="cancelled")) == 1)


def test_a_loop_that_saves_its_progress_is_handed_over_by_a_worker_that_stops(
    program: Program, flowgen_client: Client
) -> None:
    program.write(
        """
def item(n):
    note(f"item {n}")
    if n == 2:
        gate("go")
    return n

@task(name="process-batch")
def process_batch(ctx: Context) -> Flow[int]:
    for n in range(ctx.checkpoint_cursor or 0, 5):
        yield Step(item, n)
        yield Checkpoint(n + 1)
    return ctx.checkpoint_cursor
""",
        settings="Settings(lease=60, poll=0.1, grace=20)",
    )
    first = program.start()
    run = flowgen_client.start(flowgen.call("process-batch"))
    program.noted("item 2")
    first.signal(signal.SIGTERM)
    program.open("go")
    assert first.ended() == 0
    program.start()
    assert run.result(timeout=20) == 5, "long before the lease of the first would have ended"
    assert program.notes() == [f"item {n}" for n in range(5)]


def test_a_schedule_has_its_queue_and_payload_until_it_is_removed(
    app: App, flowgen_client: Client, flowgen_worker: Workers, direct_database: str
) -> None:
    other = App()
    seen: list[tuple[str, str | None]] = []

    @other.task(name="report-task", queue="reports")
    def report(ctx: StepContext, user_id: str) -> None:
        seen.append((user_id, ctx.trigger.name))

    @app.workflow
    def arranges() -> Flow[None]:
        daily = flowgen.call("report-task", user_id="123").opts(queue="reports")
        yield Schedule(daily, "user-123-daily", cron="* * * * * *")

    @app.workflow
    def removes() -> Flow[None]:
        yield Unschedule("report-task", "user-123-daily")

    flowgen_worker(app, queues=["default"])
    flowgen_client.start(arranges).result(timeout=20)
    tick = eventually(lambda: [*flowgen_client.list(RunQuery(name="report-task"))], timeout=20)[0]
    assert (tick.queue, tick.status) == ("reports", "pending")
    flowgen_worker(other, queues=["reports"])
    assert eventually(lambda: list(seen), timeout=20)[0] == ("123", "user-123-daily")
    flowgen_client.start(removes).result(timeout=20)
    with psycopg.connect(direct_database) as conn:
        assert conn.execute("select count(*) from flowgen.schedule").fetchone() == (0,)


def test_a_line_of_the_logger_is_written_once_with_its_level_and_arguments(
    app: App, flowgen_client: Client, flowgen_worker: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    error = ValueError("no route")

    @app.workflow
    def order(ctx: Context) -> Flow[None]:
        ctx.logger.info("Processing order", {"order_id": "123"})
        yield Sleep(0.01)
        ctx.logger.error("Failed to process", error)
        yield Sleep(0.01)
        ctx.logger.debug("Almost", 1)
        ctx.logger.warn("Slow")

    flowgen_worker(app, cache=0)
    flowgen_client.start(order.call().opts(id="o-1")).result(timeout=20)
    own = [each for each in caplog.records if getattr(each, "flowgen", {}).get("run_id") == "o-1"]
    assert [(each.levelname, each.getMessage()) for each in own] == [
        ("INFO", "Processing order {'order_id': '123'}"),
        ("ERROR", "Failed to process no route"),
        ("DEBUG", "Almost 1"),
        ("WARNING", "Slow"),
    ]
    assert own[1].exc_info is not None
    assert own[1].exc_info[1] is error
