"""SetProgress, SetDeadline, and what functions report, on a real worker and seen by clients while the run goes on."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import psycopg
import pytest

from flowgen import (
    App,
    Checkpoint,
    Context,
    Flow,
    Gather,
    RunFailed,
    RunStatus,
    SetDeadline,
    SetProgress,
    Settings,
    Sleep,
    Step,
    StepContext,
    call,
    connect,
)
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program
from tests.e2e.test_codec import ToyCipher
from tests.waiting import eventually


def test_progress_is_read_while_the_run_goes_on_and_was_committed_with_its_outcome(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    opened = threading.Event()

    @app.workflow
    def load() -> Flow[str]:
        yield SetProgress({"page": 1, "note": "one\u2400"})
        yield Step(opened.wait, 20).opts(name="gate")
        yield SetProgress(None)
        yield SetProgress([2, "of", 2])
        return "done"

    flowgen_worker(app)
    run = flowgen_client.start(load)
    seen = eventually(lambda: (now := run.refresh()).progress and now)
    assert seen.progress == flowgen_client.get(run.id).progress == {"page": 1, "note": "one\u2400"}
    assert (seen.status.is_final, seen.step_progress) == (False, {})
    (item,) = [each for each in flowgen_client.history(run.id) if each.name == "setprogress"]
    assert seen.progress_at == item.recorded_at, "the row and the entry are of one statement"
    assert item.value is None
    opened.set()
    assert run.result(timeout=15) == "done"
    assert run.refresh().progress == [2, "of", 2]


def test_a_task_says_how_far_it_is_and_a_heartbeat_takes_none_of_it_away(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    opened = threading.Event()

    @app.task
    def crunch(ctx: StepContext, total: int) -> int:
        ctx.progress(3, total)
        ctx.heartbeat()
        ctx.heartbeat({"file": "b"})
        opened.wait(20)
        ctx.progress(total, total)
        return total

    flowgen_worker(app)
    run = flowgen_client.start(crunch, 10)
    told = {"done": 3, "total": 10, "heartbeat": {"file": "b"}}
    seen = eventually(lambda: (now := run.refresh()).progress == told and now)
    assert seen.status is RunStatus.RUNNING
    assert seen.progress_at is not None
    opened.set()
    assert run.result(timeout=15) == 10
    assert run.refresh().progress == {"done": 10, "total": 10, "heartbeat": {"file": "b"}}, "what it said last"


def test_steps_of_a_workflow_report_beside_what_it_says_itself(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    opened = threading.Event()

    async def slow(ctx: StepContext, n: int) -> int:
        ctx.progress(n)
        while not opened.is_set():
            ctx.heartbeat()
            await asyncio.sleep(0.01)
        return n

    @app.workflow
    def both() -> Flow[Any]:
        yield SetProgress("both")
        return (yield from Gather(Step(slow, 1), Step(slow, 2).opts(name="second")))

    flowgen_worker(app)
    run = flowgen_client.start(both)
    wanted = {"gather/0/slow": {"done": 1, "total": None}, "gather/1/second": {"done": 2, "total": None}}
    seen = eventually(lambda: (now := run.refresh()).step_progress == wanted and now)
    assert seen.progress == "both"
    before = seen.progress_at
    eventually(lambda: run.refresh().progress_at > before, timeout=20)  # type: ignore[operator]
    opened.set()
    assert run.result(timeout=15) == [1, 2]
    ended = run.refresh()
    assert (ended.progress, ended.step_progress) == ("both", {})


def test_a_function_that_reports_in_a_tight_loop_costs_one_write_a_second(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: psycopg.Connection[Any]
) -> None:
    db.execute("CREATE TABLE public.said (at timestamptz, progress json)")
    db.execute(
        "CREATE FUNCTION public.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO public.said VALUES (NEW.progress_at, NEW.progress); RETURN NULL; END $$"
    )
    db.execute(
        "CREATE TRIGGER note AFTER UPDATE ON flowgen.run FOR EACH ROW "
        "WHEN (NEW.progress_at IS DISTINCT FROM OLD.progress_at) EXECUTE FUNCTION public.note()"
    )
    calls = []

    @app.task
    def busy(ctx: StepContext) -> int:
        while len(calls) < 50_000 and db_count() < 3:
            for _ in range(500):
                calls.append(1)
                ctx.progress(len(calls), 50_000)
        return len(calls)

    def db_count() -> int:
        found = db.execute("SELECT count(*) FROM public.said").fetchone()
        assert found is not None
        return int(found[0])

    flowgen_worker(app)
    run = flowgen_client.start(busy)
    said = run.result(timeout=60)
    times = [at for (at,) in db.execute("SELECT at FROM public.said ORDER BY at").fetchall()]
    gaps = [(later - earlier).total_seconds() for earlier, later in zip(times, times[1:], strict=False)]
    assert all(gap > 0.9 for gap in gaps[:-1]), gaps  # the last came with the outcome
    assert len(times) < 20
    assert run.refresh().progress == {"done": said, "total": 50_000}


def test_progress_that_cannot_be_stored_is_a_warning_of_a_task_and_an_error_of_a_handler(
    app: App, flowgen_client: Client, flowgen_worker: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task
    def says(ctx: StepContext) -> str:
        ctx.progress(float("nan"))
        ctx.progress(2)
        return "done"

    @app.workflow
    def wrong() -> Flow[None]:
        yield SetProgress(float("nan"))

    flowgen_worker(app)
    run, other = flowgen_client.start(says), flowgen_client.start(wrong)
    assert run.result(timeout=15) == "done"
    assert run.refresh().progress == {"done": 2, "total": None}
    assert "says: its progress cannot be stored: the progress" in caplog.text
    with pytest.raises(RunFailed, match="CodecError: the progress"):
        other.result(timeout=15)


def test_progress_is_sealed_in_every_place(
    app: App, flowgen_database: str, flowgen_worker: Workers, db: psycopg.Connection[Any]
) -> None:
    opened = threading.Event()

    def step(ctx: StepContext) -> None:
        ctx.heartbeat("hidden-b")
        opened.wait(20)

    @app.workflow
    def secret() -> Flow[None]:
        yield SetProgress("hidden-a")
        yield Step(step)

    @app.task
    def task(ctx: StepContext) -> None:
        ctx.heartbeat("hidden-c")

    flowgen_worker(app, codec=ToyCipher())
    with connect(flowgen_database, settings=Settings(codec=ToyCipher())) as client:
        run, other = client.start(secret), client.start(task)
        eventually(lambda: run.refresh().step_progress == {"step": {"heartbeat": "hidden-b"}})
        assert run.refresh().progress == "hidden-a"
        other.result(timeout=15)
        assert other.refresh().progress == {"heartbeat": "hidden-c"}
        dump = str(db.execute("SELECT progress::text, reports::text FROM flowgen.run").fetchall())
        assert "hidden" not in dump
        assert dump.count("\\u2400c" if "\\u2400c" in dump else "\u2400ctoy") == 3
        opened.set()
        run.result(timeout=15)


def test_a_deadline_that_a_run_gives_itself_ends_it_and_one_that_is_moved_does_not(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow
    def short() -> Flow[None]:
        yield SetDeadline(0.3)
        yield Sleep("1h")

    @app.workflow(deadline=1.5)
    def longer() -> Flow[str]:
        yield SetDeadline("1h")
        yield Sleep(2)
        return "in time"

    @app.workflow(deadline=1.5)
    def endless() -> Flow[str]:
        yield SetDeadline(None)
        yield Sleep(2)
        return "no hurry"

    flowgen_worker(app)
    runs = [flowgen_client.start(each) for each in (short, longer, endless)]
    with pytest.raises(RunFailed, match="RunTimedOut: short was not finished at its deadline"):
        runs[0].result(timeout=15)
    assert [run.result(timeout=15) for run in runs[1:]] == ["in time", "no hurry"]
    assert [run.refresh().deadline is None for run in runs] == [False, False, True]


def test_no_replay_moves_a_deadline_and_the_last_who_sets_it_holds(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    opened = threading.Event()

    @app.workflow
    def loop() -> Flow[str]:
        yield SetDeadline("1h")
        for _ in range(3):
            yield Sleep(0.01)
        yield Step(opened.wait, 20).opts(name="gate")
        yield Sleep("1d")
        return "never"

    flowgen_worker(app, cache=0)
    run = flowgen_client.start(loop)
    eventually(lambda: [each.name for each in flowgen_client.history(run.id)].count("sleep#3"), timeout=20)
    (item,) = [each for each in flowgen_client.history(run.id) if each.name == "setdeadline"]
    deadline = run.refresh().deadline
    assert deadline is not None
    assert (deadline - item.recorded_at).total_seconds() == 3600, "counted from its commit, by the database"
    flowgen_client.set_deadline(run.id, 0.5)  # while a step of it runs
    opened.set()
    with pytest.raises(RunFailed, match="RunTimedOut"):
        run.result(timeout=20)


def test_what_was_said_stays_when_the_worker_is_killed(program: Program, flowgen_client: Client) -> None:
    program.write("""
from flowgen import SetDeadline, SetProgress

def gated(ctx: StepContext):
    note("called")
    ctx.progress(1, 2)
    gate("open")

@workflow
def load():
    yield SetProgress("half")
    yield SetDeadline("1h")
    note("moved")
    yield Step(gated)
    return "whole"
""")
    first = program.start()
    run = flowgen_client.start(call("load"))
    eventually(lambda: run.refresh().step_progress, timeout=20)
    before = run.refresh()
    first.kill()
    program.start()
    program.noted("called", 2)
    after = run.refresh()
    assert (after.progress, after.deadline) == ("half", before.deadline)
    program.open("open")
    assert run.result(timeout=20) == "whole"


@pytest.mark.needs_answers("while it asks again its sleep is over, and it is not replayed")
def test_an_endless_loop_with_progress_keeps_a_short_history(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    replayed: list[int] = []

    @app.workflow
    def loop(ctx: Context) -> Flow[int]:
        first = ctx.checkpoint_cursor or 0
        replayed.append(first)
        for n in range(first, 60):
            yield SetProgress({"n": n})
            yield Checkpoint(n + 1)
        yield Sleep(0.01)
        return ctx.next_sequence

    flowgen_worker(app, cache=0)
    run = flowgen_client.start(loop)
    run.result(timeout=20)
    assert replayed[-1] == 60
    assert run.refresh().progress == {"n": 59}
