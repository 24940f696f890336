"""durability="checkpoint": steps run ahead of their commits, and nothing else does."""

from __future__ import annotations

import signal
from datetime import datetime
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import (
    App,
    Checkpoint,
    Context,
    DefinitionError,
    Flow,
    Gather,
    Invoke,
    PermanentError,
    Retry,
    RunCancelled,
    Sleep,
    Start,
    Step,
    StepFailed,
    Transaction,
    Uuid,
    Wait,
)
from flowgen.client.sync import Client
from flowgen.failpoints import evicting
from flowgen.testing.workers import Workers
from flowgen.worker import ahead
from tests.e2e.processes import Program
from tests.waiting import eventually

Db = psycopg.Connection[Any]

COMMITS = "select count(distinct recorded_at) from flowgen.entry where run_id = %s"

PROGRAM = """
from datetime import timedelta
from flowgen.worker import ahead
ahead.AGE = timedelta(hours=1)

def step(n):
    note(f"step {n}")
    if n == 12:
        note(f"stuck {os.environ['WHO']}")
        if os.environ["WHO"] == "first":
            gate("go", 60)
    return n

@workflow(durability="checkpoint")
def long() -> Flow[list[int]]:
    said = []
    for n in range(20):
        said.append((yield from Step(step, n)))
        if n == 7:
            yield Checkpoint()
    return said
"""


def test_exactly_the_steps_since_the_last_commit_repeat_when_a_worker_is_killed(
    program: Program, flowgen_client: Client
) -> None:
    program.write(PROGRAM)
    first = program.start(WHO="first")
    run = flowgen_client.start(flowgen.call("long"))
    program.noted("stuck first")
    first.kill()
    committed = [item.value for item in flowgen_client.history(run.id) if item.command == "step"]
    assert committed == list(range(8))
    program.start(WHO="second")
    assert run.result(timeout=30) == list(range(20))
    calls = [note for note in program.notes() if note.startswith("step")]
    assert calls == [f"step {n}" for n in [*range(13), *range(8, 20)]]
    kept = [item.value for item in flowgen_client.history(run.id) if item.command == "step"]
    assert kept == list(range(20))


def test_a_worker_that_lost_its_lease_commits_nothing_of_what_it_told(
    program: Program, flowgen_client: Client, db: Db
) -> None:
    program.write(PROGRAM, settings="Settings(lease=1, poll=0.1)")
    first = program.start(WHO="first")
    run = flowgen_client.start(flowgen.call("long"))
    program.noted("stuck first")
    first.signal(signal.SIGSTOP)
    program.start(WHO="second")
    assert run.result(timeout=30) == list(range(20))
    before = db.execute("select index, recorded_at, value from flowgen.entry order by 1").fetchall()
    program.open("go")
    first.signal(signal.SIGCONT)
    eventually(lambda: "lease is over" in program.errors())
    assert db.execute("select index, recorded_at, value from flowgen.entry order by 1").fetchall() == before


def test_many_steps_take_few_commits_and_one_that_is_long_takes_what_was_told_along(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    release: list[bool] = []

    def step(n: int) -> int:
        if n == 300:
            eventually(lambda: release)
        return n

    @app.workflow(durability="checkpoint")
    def quick() -> Flow[int]:
        total = 0
        for n in range(2300):
            total += yield from Step(step, n)
        return total

    flowgen_worker(app)
    run = flowgen_client.start(quick)
    # In the middle of a step: what was told before is durable a second later.
    eventually(lambda: len(flowgen_client.history(run.id)) == 300)
    release.append(True)
    assert run.result(timeout=60) == sum(range(2300))
    commits = db.execute(COMMITS, (run.uuid,)).fetchone()
    assert commits is not None
    assert commits[0] < 300 or evicting()
    assert [item.index for item in flowgen_client.history(run.id)] == list(range(1, 2301))


def test_what_is_more_than_a_step_is_durable_before_its_handler_goes_on(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And takes the steps before it along, in order: whatever it is, and beside whatever it runs."""
    monkeypatch.setattr(ahead, "AGE", ahead.AGE * 3600)
    db.execute("create table ledger (n int)")
    seen: list[tuple[str, int]] = []

    def durable(what: str) -> None:
        """What is committed, seen from the step after `what`."""
        found = db.execute(
            "select count(*) from flowgen.entry e join flowgen.run r using (run_id) "
            "where r.name = 'mixed' and not starts_with(e.key, 'durable') and not starts_with(e.key, 'n')"
        ).fetchone()
        assert found is not None
        seen.append((what, found[0]))

    def step(n: int) -> int:
        return n

    def fails() -> None:
        raise PermanentError("no")

    def save(conn: psycopg.Connection[Any], n: int) -> None:
        conn.execute("insert into ledger values (%s)", (n,))

    @app.task
    def child(n: int) -> int:
        return n

    @app.workflow(durability="checkpoint")
    def mixed() -> Flow[str]:
        for n, command in enumerate(
            [
                Step(step, 0).opts(at_most_once=True),
                Transaction(save, 1),
                Invoke(child, 2),
                Invoke(child, 3).opts(id="child-3"),
                Uuid(),
                Sleep(0.05),
                Checkpoint(),
                Gather(Step(step, 7), Transaction(save, 8), Invoke(child, 9).opts(id="child-9")),
            ]
        ):
            yield Step(step, n).opts(name=f"n{n}")
            yield command
            yield Step(durable, command.kind)
        ref = yield from Start(child, 10).opts(id="child-10")
        try:
            yield Step(fails).opts(retry=Retry(1))
        except StepFailed:
            return str((yield from Wait(ref)))
        return "never"

    flowgen_worker(app)
    run = flowgen_client.start(mixed)
    assert run.result(timeout=30) == "10"
    items = flowgen_client.history(run.id)
    assert [item.index for item in items] == list(range(1, len(items) + 1))
    outcomes = [item.path for item in items if item.kind == "outcome" and item.path.startswith("n")]
    assert outcomes == [f"n{n}" for n in range(8)]
    # started and outcome; transaction; child and outcome, twice; uuid; armed and outcome; checkpoint; the gather's
    strict = [2, 3, 5, 7, 8, 10, 11, 15]
    assert [count for _, count in seen[:-1]] == strict[:-1]
    assert db.execute("select n from ledger order by 1").fetchall() == [(1,), (8,)]
    told = [item.due_at for item in items if item.path == "durable"]
    assert isinstance(told[0], datetime)


def test_the_time_of_a_handler_that_ran_ahead_is_the_same_in_a_replay(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    times: list[list[datetime]] = []

    def step(n: int) -> int:
        return n

    @app.workflow(durability="checkpoint")
    def timed(ctx: Context) -> Flow[int]:
        mine: list[datetime] = []
        times.append(mine)
        for n in range(5):
            yield Step(step, n)
            assert ctx.now is not None
            mine.append(ctx.now)
        yield Sleep(0.3)
        return len(mine)

    flowgen_worker(app, cache=0)
    assert flowgen_client.start(timed).result(timeout=20) == 5
    assert len(times) > 1
    assert times[0][: len(times[0])] == times[-1][: len(times[0])]
    assert times[-1] == sorted(times[-1])


def test_a_cancelled_run_keeps_what_it_told(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    undone: list[int] = []
    reached: list[bool] = []

    def step(n: int) -> int:
        return n

    def stay() -> None:
        reached.append(True)
        flowgen.current().signal.wait(30)

    @app.workflow(durability="checkpoint")
    def long() -> Flow[None]:
        for n in range(3):
            yield Step(step, n).opts(compensate=lambda n: Step(undone.append, n))
        yield Step(stay)

    flowgen_worker(app)
    run = flowgen_client.start(long)
    eventually(lambda: reached)
    flowgen_client.cancel(run.id)
    with pytest.raises(RunCancelled):
        run.result(timeout=20)
    assert undone == [2, 1, 0]
    assert [item.value for item in flowgen_client.history(run.id)][:3] == [0, 1, 2]


def test_another_durability_is_refused(app: App) -> None:
    with pytest.raises(DefinitionError, match='durability= is "step" or "checkpoint", not \'never\''):
        app.workflow(durability="never")  # type: ignore[call-overload]


MIXED = """
from flowgen import Emit, Schedule, SetProgress, Signal
from flowgen.worker import ahead
ahead.AGE = timedelta(hours=1)

def step(n):
    note(f"step {n}")
    return n

def stuck(ctx: StepContext):
    if os.environ.get("REPORTS"):
        ctx.progress(1, 2)
        ctx.heartbeat({"at": "the door"})
    note(f"stuck {os.environ['WHO']}")
    if os.environ["WHO"] == "first":
        gate("never", 60)

@workflow
def listens() -> Flow[list[int]]:
    return [(yield from WaitSignal("n", int)), (yield from WaitSignal("n", int))]

@task
def child(n: int) -> int:
    note(f"child {n}")
    return n

@workflow(durability="checkpoint")
def mixed(to: str) -> Flow[str]:
    for n in range(0, 3):
        yield Step(step, n)
    yield Schedule(child.call(7), "later", cron="0 0 1 1 *")
    yield Step(step, 3)
    yield Emit("told", 1)
    yield Step(step, 4)
    yield Start(child, 1)
    yield Step(step, 5)
    yield Signal(to, "n", 1)
    yield Step(step, 6)
    yield SetProgress("six")
    for n in range(7, 10):
        yield Step(step, n)
    yield Step(stuck)
    yield Signal(to, "n", 2)
    yield Step(step, 10)
    return "done"
"""


@pytest.mark.parametrize("reports", ["", "1"], ids=["silent", "reports"])
def test_effects_between_steps_that_repeat_are_neither_lost_nor_doubled(
    program: Program, flowgen_client: Client, db: Db, reports: str
) -> None:
    """The steps since the last of them are called again, unless a report of the one that is called took them along."""
    program.write("from datetime import timedelta\n" + MIXED)
    listening = flowgen_client.start(flowgen.call("listens").opts(id="to"))
    first = program.start(WHO="first", REPORTS=reports)
    run = flowgen_client.start(flowgen.call("mixed", to="to"))
    program.noted("stuck first")
    said = {"stuck": {"done": 1, "total": 2, "heartbeat": {"at": "the door"}}}
    eventually(lambda: run.refresh().step_progress == (said if reports else {}), timeout=20)
    assert run.refresh().progress == "six"
    first.kill()
    program.start(WHO="second")
    assert run.result(timeout=30) == "done"
    assert listening.result(timeout=30) == [1, 2]
    steps = [note for note in program.notes() if note.startswith("step")]
    assert steps == [f"step {n}" for n in [*range(10), *range(10 if reports else 7, 11)]]
    eventually(lambda: program.notes().count("child 1") == 1, timeout=20)
    made = "select (select count(*) from flowgen.event), (select count(*) from flowgen.schedule), count(*)"
    assert db.execute(made + " from flowgen.run").fetchone() == (1, 1, 3)
    assert run.refresh().progress == "six"
