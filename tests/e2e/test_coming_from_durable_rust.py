"""What docs/coming-from/durable-rust.md says of ours and no other test proves."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from flowgen import (
    App,
    Context,
    Flow,
    FlowgenError,
    Invoke,
    Retry,
    RunFailed,
    RunQuery,
    RunStatus,
    Scope,
    Sleep,
    Step,
    StepContext,
    StepFailed,
    Transaction,
)
from flowgen.client.sync import Client
from flowgen.testing.clock import Clock
from flowgen.testing.workers import Workers
from tests.waiting import eventually


def test_a_step_without_retries_is_called_once_and_its_failure_is_thrown(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    calls: list[int] = []

    def fetch_count() -> int:
        calls.append(1)
        raise ValueError("no route")

    @app.workflow
    def ingest() -> Flow[str]:
        try:
            yield Step(fetch_count).opts(retry=Retry(1))
        except StepFailed as error:
            return f"{error.failure} after {error.attempts}"
        return "no failure"

    flowgen_worker(app)
    assert flowgen_client.start(ingest).result(timeout=20) == "ValueError: no route after 1"
    assert calls == [1]


def test_a_long_wait_for_the_next_attempt_is_a_row_and_a_short_one_is_not(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_clock: Clock
) -> None:
    attempts: list[tuple[str, int]] = []

    def call_api(ctx: StepContext, wait: str) -> int:
        attempts.append((wait, ctx.attempt))
        if ctx.attempt == 1:
            raise ValueError("busy")
        return ctx.attempt

    @app.workflow
    def ingest(wait: str) -> Flow[int]:
        return (yield from Step(call_api, wait).opts(retry=Retry(2, initial=wait, jitter=0)))

    worker = flowgen_worker(app, concurrency=1)
    assert flowgen_client.start(ingest, "10ms").result(timeout=20) == 2
    run = flowgen_client.start(ingest, "1h")
    eventually(lambda: run.refresh().status == "waiting")
    worker.stop()
    flowgen_worker(app)
    assert flowgen_client.start(ingest, "20ms").result(timeout=20) == 2
    assert run.refresh().status == "waiting"
    flowgen_clock.advance("1h")
    assert run.result(timeout=20) == 2
    assert [attempt for wait, attempt in attempts if wait == "1h"] == [1, 2]


def test_a_transaction_has_the_name_that_it_is_given(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: psycopg.Connection[Any]
) -> None:
    db.execute("create table batch (size int)")

    def upsert(conn: psycopg.Connection[Any], size: int) -> int:
        conn.execute("insert into batch values (%s)", (size,))
        return size

    @app.workflow
    def ingest() -> Flow[int]:
        one = yield from Transaction(upsert, 1).opts(name="upsert_batch")
        return one + (yield from Transaction(upsert, 2))

    flowgen_worker(app)
    run = flowgen_client.start(ingest)
    assert run.result(timeout=20) == 3
    assert [item.name for item in flowgen_client.history(run.id)] == ["upsert_batch", "upsert"]
    assert db.execute("select size from batch order by 1").fetchall() == [(1,), (2,)]


def test_steps_of_one_name_in_a_parent_its_child_and_a_scope_are_apart(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    calls: list[str] = []

    def note(who: str) -> str:
        calls.append(who)
        return who

    @app.workflow
    def embed_batch() -> Flow[str]:
        return (yield from Step(note, "child").opts(name="note"))

    def scoped() -> Flow[str]:
        return (yield from Step(note, "scope").opts(name="note"))

    @app.workflow
    def ingest() -> Flow[list[str]]:
        own = yield from Step(note, "parent").opts(name="note")
        inside = yield from Scope("embed_batch", scoped())
        return [own, inside, (yield from Invoke(embed_batch))]

    flowgen_worker(app, cache=0)
    run = flowgen_client.start(ingest)
    assert run.result(timeout=20) == ["parent", "scope", "child"]
    assert calls == ["parent", "scope", "child"]
    paths = [item.path for item in flowgen_client.history(run.id) if item.kind == "outcome"]
    assert paths[:2] == ["note", "embed_batch/note"]


def test_the_next_sequence_is_the_index_of_the_next_entry(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    def work() -> None: ...

    @app.workflow
    def ingest(ctx: Context) -> Flow[list[int]]:
        seen = [ctx.next_sequence]
        for _ in range(3):
            yield Step(work)
            seen.append(ctx.next_sequence)
            yield Sleep(0)
        return seen

    flowgen_worker(app, cache=0)
    run = flowgen_client.start(ingest)
    seen = run.result(timeout=20)
    steps = [item.index for item in flowgen_client.history(run.id) if item.command == "step"]
    assert seen == [steps[0], *[index + 1 for index in steps]]


def test_a_run_says_whether_it_is_completed_and_what_it_came_to(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    go_on = threading.Event()

    def count() -> int:
        assert go_on.wait(20)
        return 1000

    @app.workflow
    def ingest() -> Flow[dict[str, int]]:
        return {"count": (yield from Step(count))}

    flowgen_worker(app)
    flowgen_client.start(ingest.call().opts(id="ingest"))
    eventually(lambda: flowgen_client.get("ingest").status == "running")
    before = flowgen_client.get("ingest")
    assert before.status != "completed"
    assert before.output is None
    go_on.set()
    assert flowgen_client.get("ingest", ingest).result(timeout=20) == {"count": 1000}
    after = flowgen_client.get("ingest")
    assert after.status is RunStatus.COMPLETED
    assert after.output == {"count": 1000}


def test_a_child_that_has_completed_is_skipped_when_its_parent_is_tried_again(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    broken = [True]

    @app.task
    def embed_batch(vectors: int) -> int:
        return vectors

    def publish() -> str:
        if broken[0]:
            raise ValueError("closed")
        return "published"

    @app.workflow
    def ingest() -> Flow[list[Any]]:
        embedded = yield from Invoke(embed_batch, 1000)
        return [embedded, (yield from Step(publish).opts(retry=Retry(1)))]

    flowgen_worker(app)
    run = flowgen_client.start(ingest)
    with pytest.raises(RunFailed, match="closed"):
        run.result(timeout=20)
    broken[0] = False
    flowgen_client.retry(run.id)
    assert run.result(timeout=20) == [1000, "published"]
    assert flowgen_client.count(RunQuery(name="embed_batch")) == 1


def test_a_handler_that_raises_has_failed_with_what_it_said(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow
    def ingest() -> Flow[None]:
        yield Sleep(0)
        raise LookupError("no such crawl")

    flowgen_worker(app)
    run = flowgen_client.start(ingest)
    with pytest.raises(RunFailed, match="no such crawl"):
        run.result(timeout=20)
    failed = run.refresh()
    assert failed.status is RunStatus.FAILED
    assert failed.error is not None
    assert (failed.error.type, failed.error.message) == ("LookupError", "no such crawl")
    assert "raise LookupError" in failed.error.traceback


def test_a_run_that_is_started_with_a_deadline_fails_past_it(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow
    def ingest() -> Flow[None]:
        yield Sleep(hours=1)

    started = flowgen_client.start(ingest.call().opts(id="ingest", deadline=0.5))
    attached = flowgen_client.start(ingest.call().opts(id="ingest", deadline="1h"))
    assert attached.attached
    assert started.deadline is not None
    assert attached.deadline == started.deadline
    flowgen_worker(app)
    with pytest.raises(RunFailed, match="RunTimedOut"):
        started.result(timeout=20)


def test_a_context_may_be_given_to_another_thread(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    @app.task
    def look(ctx: StepContext, crawl: str) -> list[Any]:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(lambda: [ctx.run_id, ctx.get_input("crawl"), ctx.attempt, ctx.signal.aborted]).result()

    flowgen_worker(app)
    run = flowgen_client.start(look.call("CC-2026").opts(id="ingest"))
    assert run.result(timeout=20) == ["ingest", "CC-2026", 1, False]


def test_a_family_is_paused_resumed_and_cancelled_as_one(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    released = threading.Event()
    calls: list[str] = []

    def count(how: str) -> str:
        calls.append(how)
        assert released.wait(20)
        return how

    @app.workflow
    def grandchild(how: str) -> Flow[str]:
        counted = yield from Step(count, how)
        if how == "cancel":
            yield Sleep(hours=1)
        return counted

    @app.workflow
    def child(how: str) -> Flow[str]:
        return (yield from Invoke(grandchild, how))

    @app.workflow
    def ingest(how: str) -> Flow[str]:
        return (yield from Invoke(child, how))

    def statuses(how: str) -> list[str]:
        runs = [each for each in flowgen_client.list(RunQuery(sort="created_at")) if each.input == {"how": how}]
        return [f"{each.name} {each.status.value}" for each in runs]

    flowgen_worker(app)
    for how in ("pause", "cancel"):
        flowgen_client.start(ingest.call(how).opts(id=how))
    eventually(lambda: sorted(calls) == ["cancel", "pause"])
    flowgen_client.pause("pause")
    released.set()
    eventually(lambda: statuses("pause") == ["ingest paused", "child paused", "grandchild paused"])
    eventually(lambda: statuses("cancel") == ["ingest waiting", "child waiting", "grandchild waiting"])
    assert flowgen_client.resume("pause").status == RunStatus.PENDING
    assert flowgen_client.result("pause", timeout=20) == "pause"
    assert statuses("pause") == ["ingest completed", "child completed", "grandchild completed"]
    assert sorted(calls) == ["cancel", "pause"], "the outcome of the step that went on meanwhile was kept"
    flowgen_client.cancel("cancel")
    eventually(lambda: statuses("cancel") == ["ingest cancelled", "child cancelled", "grandchild cancelled"])
    with pytest.raises(FlowgenError, match="is cancelled"):
        flowgen_client.resume("cancel")
