"""What a worker that is killed leaves behind, and what the next one makes of it."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import RunFailed
from flowgen.client.sync import Client
from tests.e2e.processes import Program
from tests.waiting import eventually

Db = psycopg.Connection[Any]


def test_a_crash_in_a_backoff_neither_loses_nor_shortens_it(program: Program, flowgen_client: Client) -> None:
    program.write("""
def flaky():
    note(f"attempt {current().attempt} at {time.time()}")
    if current().attempt < 2:
        raise ValueError("boom")
    return current().attempt

@workflow
def retried() -> Flow[int]:
    return (yield from Step(flaky).opts(retry=Retry(2, initial=4, jitter=0)))
""")
    first = program.start()
    run = flowgen_client.start(flowgen.call("retried"))
    failed = eventually(lambda: [item for item in flowgen_client.history(run.id) if item.kind == "attempt"])[0]
    first.kill()
    program.start()
    assert run.result(timeout=20) == 2
    times = [float(each.split()[-1]) for each in program.notes()]
    assert [each.split(" at ")[0] for each in program.notes()] == ["attempt 1", "attempt 2"]
    assert 4 <= times[1] - times[0] < 9
    assert failed.due_at is not None
    assert [item.kind for item in flowgen_client.history(run.id)] == ["attempt", "outcome"]


def test_a_call_that_may_be_made_once_is_interrupted_by_a_crash(program: Program, flowgen_client: Client) -> None:
    program.write("""
def pay():
    note("paying")
    gate("never", 60)

@workflow
def careful() -> Flow[str]:
    try:
        yield from Step(pay).opts(at_most_once=True)
    except StepInterrupted as error:
        return type(error).__name__
""")
    first = program.start()
    run = flowgen_client.start(flowgen.call("careful"))
    program.noted("paying")
    first.kill()
    program.start()
    assert run.result(timeout=20) == "StepInterrupted"
    assert program.notes() == ["paying"]


def test_a_step_whose_worker_was_killed_is_called_again_and_committed_once(
    program: Program, flowgen_client: Client
) -> None:
    program.write("""
def before():
    note("before")
    return 1

def during():
    note("during")
    if program_number == "1":
        gate("never", 60)
    return 2

program_number = os.environ["NUMBER"]

@workflow
def three() -> Flow[int]:
    a = yield from Step(before)
    b = yield from Step(during)
    return a + b
""")
    first = program.start(NUMBER="1")
    run = flowgen_client.start(flowgen.call("three"))
    program.noted("during")
    first.kill()
    program.start(NUMBER="2")
    assert run.result(timeout=20) == 3
    assert program.notes() == ["before", "during", "during"]
    assert len(flowgen_client.history(run.id)) == 2


def test_a_sleep_survives_a_crash_and_is_never_moved(program: Program, flowgen_client: Client, db: Db) -> None:
    program.write("""
@workflow
def sleepy() -> Flow[str]:
    yield Sleep(4)
    note("awake")
    return "awake"
""")

    def due_at() -> Any:
        row = db.execute("select due_at from flowgen.entry where run_id = %s and kind = 4", (run.uuid,)).fetchone()
        return row and row[0]

    first = program.start()
    run = flowgen_client.start(flowgen.call("sleepy"))
    due = eventually(due_at)
    eventually(lambda: run.refresh().status == "waiting")
    first.kill()
    second = program.start()
    assert due_at() == due
    second.kill()
    program.start()
    assert run.result(timeout=20) == "awake"
    assert due_at() == due
    finished_at = run.refresh().finished_at
    assert finished_at is not None
    assert finished_at >= due
    assert program.notes() == ["awake"]


def test_a_checkpoint_is_where_a_killed_worker_is_followed(program: Program, flowgen_client: Client) -> None:
    program.write("""
def count():
    note("count")
    return 6

def page(n):
    note(f"page {n}")
    if n == 3:
        gate("go", 60)
    return n

@workflow
def load(ctx: Context) -> Flow[int]:
    pages = yield from Step(count)
    total = (ctx.accumulated_results or {"n": 0})["n"]
    for n in range(ctx.checkpoint_cursor or 0, pages):
        total += yield from Step(page, n)
        yield Checkpoint(n + 1, n + 1, {"n": total})
    return total
""")
    first = program.start()
    run = flowgen_client.start(flowgen.call("load"))
    program.noted("page 3")
    first.kill()
    program.open("go")
    program.start()
    assert run.result(timeout=20) == 15
    assert program.notes() == ["count", "page 0", "page 1", "page 2", "page 3", "page 3", "page 4", "page 5"]


def test_children_and_transactions_survive_a_killed_worker_exactly_once(
    program: Program, flowgen_client: Client, db: Db
) -> None:
    db.execute("create table ledger (n int)")
    program.write("""
def pay(conn, n):
    conn.execute("insert into ledger values (%s)", (n,))

def slow(n):
    note(f"slow {n}")
    gate("go", 60)
    return n

@workflow
def child(n: int) -> Flow[int]:
    yield Transaction(pay, n)
    return (yield from Step(slow, n))

@workflow
def pay_all() -> Flow[int]:
    results = yield from Gather(*[Invoke(child, n) for n in range(4)])
    return sum(results)
""")
    first = program.start()
    run = flowgen_client.start(flowgen.call("pay_all"))
    for n in range(4):
        program.noted(f"slow {n}")
    first.kill()
    program.open("go")
    program.start()
    assert run.result(timeout=20) == 6
    assert db.execute("select n from ledger order by n").fetchall() == [(n,) for n in range(4)]
    assert flowgen_client.count(flowgen.client.queries.RunQuery(name="child")) == 4


@pytest.mark.fault("F17")
def test_a_run_that_kills_its_workers_fails_as_poison_and_its_neighbours_complete(
    program: Program, flowgen_client: Client
) -> None:
    program.write(
        """
def bite():
    note("bite")
    os._exit(139)

def fine(n):
    return n

@workflow
def poison() -> Flow[None]:
    yield Step(bite)

@workflow
def neighbour(n: int) -> Flow[int]:
    yield Step(fine, n)
    yield Sleep(0.5)
    return (yield from Step(fine, n))
""",
        settings="Settings(lease=0.6, poll=0.1, max_recoveries=2)",
    )
    bad = flowgen_client.start(flowgen.call("poison"))
    others = flowgen_client.start_many([flowgen.call("neighbour", n=n) for n in range(50)])
    bites: list[int] = []
    for _ in range(8):
        process = program.start(workers=0)
        eventually(lambda: process.popen.poll() is not None or bad.refresh().status == "failed", timeout=20)  # noqa: B023
        if bad.refresh().status == "failed":
            break
        bites.append(process.pid)
    with pytest.raises(RunFailed, match="PoisonRun") as told:
        bad.result(timeout=10)
    workers = told.value.failure.details["workers"]
    assert [int(each.rpartition("pid ")[2].rstrip(")")) for each in workers] == bites
    assert [run.result(timeout=20) for run in others] == [*range(50)]
    assert len(bites) == program.notes().count("bite") == 4
