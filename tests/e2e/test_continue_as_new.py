"""ContinueAsNew on a real worker: the same run, a new input, and nothing that grows."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from flowgen import (
    App,
    Checkpoint,
    Context,
    ContinueAsNew,
    Flow,
    Gather,
    Invoke,
    Now,
    Retry,
    RunFailed,
    RunQuery,
    RunStatus,
    SetProgress,
    Settings,
    Sleep,
    Start,
    Step,
    StepContext,
    Wait,
    WaitSignal,
    call,
    connect,
)
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program
from tests.e2e.test_codec import ToyCipher
from tests.waiting import eventually


def one(db: psycopg.Connection[Any], query: str) -> Any:
    row = db.execute(query).fetchone()  # type: ignore[call-overload]
    assert row is not None
    return row[0]


@pytest.mark.parametrize("passes", [150, pytest.param(3000, marks=pytest.mark.nightly)])
def test_nothing_grows_over_many_passes(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: psycopg.Connection[Any], passes: int
) -> None:
    sizes: list[tuple[int, int]] = []

    def look(n: int) -> int:
        found = db.execute("SELECT count(*), coalesce(sum(pg_column_size(e.*)), 0) FROM flowgen.entry e").fetchone()
        assert found is not None
        sizes.append((int(found[0]), int(found[1])))
        return n

    @app.workflow
    def loop(ctx: Context, n: int, last: int) -> Flow[Any]:
        yield SetProgress({"pass": n})
        yield Now()
        yield Step(look, n)
        if n < last:
            return (yield from ContinueAsNew(n + 1, last=last))
        return [n, ctx.run_id, ctx.correlation_id, ctx.attempt, ctx.has_checkpoint()]

    flowgen_worker(app)
    given = loop.call(1, passes).opts(id="loop", tags=["t"], correlation_id="c", deadline="1h")
    first = flowgen_client.start(given)
    assert first.result(timeout=20 + passes / 10) == [passes, "loop", "c", 1, False]
    ended = first.refresh()
    assert (ended.uuid, ended.created_at, ended.deadline) == (first.uuid, first.created_at, first.deadline)
    assert (ended.tags, ended.parent_id, ended.attempt) == (("t",), None, 1)
    assert ended.input == {"n": passes, "last": passes}
    assert ended.progress == {"pass": passes}
    assert len(sizes) == passes
    assert max(rows for rows, _ in sizes) <= 2, "only what the pass has recorded so far"
    assert max(size for _, size in sizes) <= 2 * sizes[0][1]
    assert one(db, "SELECT count(*) FROM flowgen.run") == 1
    assert one(db, "SELECT count(*) FROM flowgen.former") == 0
    assert [item.name for item in flowgen_client.history("loop")] == ["setprogress", "now", "look"]


def test_a_long_pass_is_forgotten_bit_by_bit(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: psycopg.Connection[Any]
) -> None:
    opened = threading.Event()

    @app.workflow
    def wide(n: int) -> Flow[int]:
        if n == 1:
            yield Gather(*[Now() for _ in range(3000)])
            return (yield from ContinueAsNew(2))
        yield Step(opened.wait, 20).opts(name="gate")
        return n

    flowgen_worker(app, cache=0)
    run = flowgen_client.start(wide, 1)
    eventually(lambda: run.refresh().input == {"n": 2}, timeout=30)
    eventually(lambda: one(db, "SELECT count(*) FROM flowgen.former") == 0, timeout=30)
    assert one(db, "SELECT count(*) FROM flowgen.entry WHERE key LIKE 'gather%'") == 0
    opened.set()
    assert run.result(timeout=20) == 2
    (item,) = flowgen_client.history(run.id)
    assert item.index > 3000, "an index is used once"


def test_kill_9_runs_no_pass_twice_and_loses_none(
    program: Program, flowgen_client: Client, db: psycopg.Connection[Any]
) -> None:
    db.execute("CREATE TABLE public.passed (n integer PRIMARY KEY)")
    program.write("""
from flowgen import ContinueAsNew

def mark(conn, n):
    conn.execute("INSERT INTO public.passed VALUES (%s)", (n,))

@workflow
def loop(n: int, last: int):
    yield Transaction(mark, n)
    if n < last:
        yield ContinueAsNew(n + 1, last)
    return n
""")
    last = 120
    process = program.start()
    run = flowgen_client.start(call("loop", n=1, last=last))
    for part in (30, 80):
        eventually(lambda part=part: one(db, "SELECT count(*) FROM public.passed") >= part, timeout=60)  # type: ignore[misc]
        process.kill()
        process = program.start()
    assert run.result(timeout=90) == last
    assert one(db, "SELECT count(*) FROM public.passed") == last
    assert one(db, "SELECT max(n) FROM public.passed") == last


@pytest.mark.parametrize("point", ["complete.before_commit", "complete.after_commit"])
def test_a_crash_at_the_commit_of_a_pass_loses_and_repeats_nothing(
    program: Program, flowgen_client: Client, point: str
) -> None:
    program.write("""
from flowgen import ContinueAsNew

@workflow
def loop(n: int):
    yield Step(note, f"pass {n}")
    if n < 3:
        yield ContinueAsNew(n + 1)
    return n
""")
    run = flowgen_client.start(call("loop", n=1))
    process = program.start(workers=0, FLOWGEN_FAILPOINTS=f"{point}=kill")
    process.ended()
    program.start()
    assert run.result(timeout=30) == 3
    assert program.notes() == ["pass 1", "pass 2", "pass 3"]


def test_children_of_an_earlier_pass_go_on_and_tell_the_new_one_nothing(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: psycopg.Connection[Any]
) -> None:
    opened = threading.Event()

    @app.task
    def work(n: int) -> str:
        if n == 1:
            opened.wait(20)
        return f"work {n}"

    def letters() -> int:
        return int(one(db, "SELECT count(*) FROM flowgen.inbox WHERE kind = 1"))

    @app.workflow
    def parent(n: int) -> Flow[Any]:
        if n == 1:
            yield Wait((yield from Start(work, 0)))
        else:
            assert (yield from Step(letters)) == 0, "what the first pass was told is forgotten"
        ref = yield from Start(work, n)
        if n == 1:
            told = yield from WaitSignal("go", str)
            return (yield from ContinueAsNew(2)) if told == "on" else told
        opened.set()
        first = yield from WaitSignal("late", str)
        yield Sleep(0.05)
        return [first, (yield from Wait(ref)), (yield from Invoke(work, 3))]

    flowgen_worker(app, concurrency=4)
    run = flowgen_client.start(parent.call(1).opts(id="p"))
    flowgen_client.signal("p", "late", "kept")
    flowgen_client.signal("p", "go", "on")
    assert run.result(timeout=20) == ["kept", "work 2", "work 3"]
    wanted = ["work 0", "work 1", "work 2", "work 3"]
    query = RunQuery(name="work")
    eventually(lambda: sorted(str(each.output) for each in flowgen_client.list(query)) == wanted, timeout=20)
    assert one(db, "SELECT count(*) FROM flowgen.inbox") == 0


def test_a_deadline_holds_over_all_passes_and_a_cancel_and_a_pause_reach_each(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow
    def endless(ctx: Context, n: int) -> Flow[int]:
        for place in range(ctx.checkpoint_cursor or 0, 2):
            yield Sleep(0.01)
            yield Checkpoint(place + 1)
        return (yield from ContinueAsNew(n + 1))

    flowgen_worker(app, cache=0)
    late = flowgen_client.start(endless.call(1).opts(deadline=2))
    other = flowgen_client.start(endless.call(1))
    eventually(lambda: other.refresh().input["n"] > 3)
    flowgen_client.pause(other.id)
    eventually(lambda: other.refresh().status is RunStatus.PAUSED)
    stands = other.refresh().input["n"]
    flowgen_client.resume(other.id)
    eventually(lambda: other.refresh().input["n"] > stands)
    flowgen_client.cancel(other.id)
    eventually(lambda: other.refresh().status is RunStatus.CANCELLED)
    with pytest.raises(RunFailed, match="RunTimedOut"):
        late.result(timeout=20)
    assert late.refresh().input["n"] > 1


def test_a_pass_that_fails_and_is_retried_goes_on_from_its_own_input(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    broken = [True]
    keys: list[str] = []

    def risky(ctx: StepContext, n: int) -> int:
        keys.append(str(ctx.step_uuid))
        if n == 3 and broken[0]:
            raise ValueError("three")
        return n

    @app.workflow
    def loop(n: int) -> Flow[int]:
        yield Step(risky, n).opts(retry=Retry(1))
        if n < 4:
            yield ContinueAsNew(n + 1)
        return n

    flowgen_worker(app)
    run = flowgen_client.start(loop, 1)
    with pytest.raises(RunFailed, match="three"):
        run.result(timeout=20)
    broken[0] = False
    flowgen_client.retry(run.id)
    assert run.result(timeout=20) == 4
    assert len(set(keys)) == 4, "a step of another pass is another step, and its retry is the same"
    assert len(keys) == 5


def test_the_input_of_the_next_pass_is_sealed(
    app: App, flowgen_database: str, flowgen_worker: Workers, db: psycopg.Connection[Any]
) -> None:
    opened = threading.Event()

    @app.workflow
    def loop(word: str) -> Flow[str]:
        if word == "hidden-a":
            yield ContinueAsNew("hidden-b")
        yield Step(opened.wait, 20).opts(name="gate")
        return word

    flowgen_worker(app, codec=ToyCipher())
    with connect(flowgen_database, settings=Settings(codec=ToyCipher())) as client:
        run = client.start(loop, "hidden-a")
        eventually(lambda: run.refresh().input == {"word": "hidden-b"})
        assert "hidden" not in str(one(db, "SELECT input::text FROM flowgen.run"))
        opened.set()
        assert run.result(timeout=20) == "hidden-b"
