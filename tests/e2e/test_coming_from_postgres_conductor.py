"""What docs/coming-from/postgres-conductor.md says of ours and no other test proves."""

from __future__ import annotations

import logging
import signal
import threading
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
from flowgen.testing.clock import Clock
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program
from tests.waiting import eventually


def test_names_that_are_given_are_kept_others_are_numbered_and_no_step_is_repeated(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    calls: list[str] = []

    def work(what: str) -> None:
        calls.append(what)

    @app.task(name="child-task")
    def child(input: int) -> dict[str, int]:
        return {"output": input * 2}

    @app.workflow(name="multi-step")
    def multi_step(ctx: Context, value: int) -> Flow[dict[str, Any]]:
        assert flowgen.current() is ctx
        yield Step(work, "a").opts(name="step1")
        yield Sleep(0.01).opts(name="pause")
        yield Step(work, "b").opts(name="step2")
        yield Step(work, "c")
        yield Sleep(0.01)
        yield Step(work, "d")
        result = yield from Invoke(child, value).opts(name="call-child", timeout="30s")
        return {"final": result["output"] + 10, "id": ctx.execution_id}

    flowgen_worker(app, cache=0)
    named, plain = (flowgen_client.start(call) for call in (multi_step.call(1).opts(id="m-1"), multi_step.call(2)))
    assert named.result(timeout=20) == {"final": 12, "id": "m-1"}
    assert plain.result(timeout=20) == {"final": 14, "id": str(plain.uuid)}
    assert sorted(calls) == sorted("abcd" * 2)
    outcomes = [item.path for item in flowgen_client.history("m-1") if item.kind == "outcome"]
    assert outcomes == ["step1", "pause", "step2", "work", "sleep", "work#2", "call-child"]


def test_a_name_that_is_given_twice_is_refused_before_its_step_is_called(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    calls: list[str] = []

    @app.workflow
    def twice() -> Flow[None]:
        yield Step(calls.append, "first").opts(name="fetch")
        yield Step(calls.append, "second").opts(name="fetch")

    flowgen_worker(app)
    run = flowgen_client.start(twice)
    with pytest.raises(RunFailed, match="the name 'fetch' is given twice in this run") as failed:
        run.result(timeout=20)
    assert failed.value.failure.type == "DuplicateNameError"
    assert calls == ["first"]


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


def test_a_sleep_is_for_months_or_until_a_time(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_clock: Clock
) -> None:
    @app.workflow
    def months() -> Flow[str]:
        yield Sleep(days=200)
        return "awake"

    @app.workflow
    def until(noon: datetime) -> Flow[str]:
        yield Sleep(until=noon)
        return "noon"

    flowgen_worker(app)
    noon = datetime.now(UTC).replace(hour=12, minute=0) + timedelta(days=100)
    long, short = (flowgen_client.start(call) for call in (months.call(), until.call(noon)))
    eventually(lambda: {run.refresh().status for run in (long, short)} == {"waiting"})
    assert short.refresh().due_at == noon
    due_at = long.refresh().due_at
    assert due_at is not None
    assert timedelta(days=200) <= due_at - long.created_at < timedelta(days=200, minutes=1)
    flowgen_clock.advance("199d")
    assert short.result(timeout=20) == "noon"
    assert long.refresh().status == "waiting"
    flowgen_clock.advance("1d")
    assert long.result(timeout=20) == "awake"
    assert long.refresh().recoveries == 0


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


def test_a_child_that_exhausts_its_retries_fails_its_parent(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    tries: list[int] = []

    @app.task(name="child-processor", retry=Retry(3, initial=0.01))
    def child() -> None:
        tries.append(flowgen.current().attempt)
        raise ValueError("no input")

    @app.workflow(name="parent-workflow")
    def parent() -> Flow[None]:
        yield Invoke(child).opts(name="process-step")

    flowgen_worker(app)
    run = flowgen_client.start(parent)
    with pytest.raises(RunFailed, match="ChildFailed: Child run failed: ValueError: no input"):
        run.result(timeout=20)
    assert tries == [1, 2, 3]
    failed = flowgen_client.list(RunQuery(status="failed", sort="created_at"))
    assert [each.name for each in failed] == ["parent-workflow", "child-processor"]
    assert failed[0].error is not None
    assert failed[0].error.type == "ChildFailed"


@pytest.mark.parametrize(("progress", "stored"), [((), ["work", "checkpoint"]), ((1, 1, {"n": 1}), ["checkpoint"])])
def test_a_checkpoint_is_committed_before_its_handler_goes_on(
    app: App, flowgen_client: Client, flowgen_worker: Workers, progress: tuple[Any, ...], stored: list[str]
) -> None:
    def committed() -> list[str]:
        return [item.path for item in flowgen_client.history("one") if item.kind in ("outcome", "checkpoint")]

    def work() -> None: ...

    @app.workflow
    def one(ctx: Context) -> Flow[list[str]]:
        if not ctx.has_checkpoint():
            yield Step(work)
            yield Checkpoint(*progress)
        return (yield from Step(committed))

    flowgen_worker(app)
    assert flowgen_client.start(one.call().opts(id="one")).result(timeout=20) == stored


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
