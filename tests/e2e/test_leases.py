"""Leases: a worker that lost its own writes nothing, and a lost connection is no lost lease."""

from __future__ import annotations

import os
import signal
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import App, Flow, Gather, Invoke, Step, Transaction
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program
from tests.waiting import eventually

Db = psycopg.Connection[Any]


@pytest.mark.fault("F11")
def test_a_worker_that_was_stopped_beyond_its_lease_cannot_write_a_byte(
    program: Program, flowgen_client: Client, db: Db
) -> None:
    program.write(
        """
def step(n, k):
    note(f"step {n}.{k} by {os.getpid()}")
    if os.environ["WHO"] == "first":
        gate("go", 60)
        note(f"late {n}.{k}")
    return f"{n}.{k} by {os.getpid()}"

@workflow
def long(n: int) -> Flow[list[str]]:
    said = []
    for k in range(3):
        said.append((yield from Step(step, n, k)))
    return said
""",
        settings="Settings(lease=1, poll=0.1)",
    )
    first = program.start(WHO="first")
    runs = flowgen_client.start_many([flowgen.call("long", n=n) for n in range(5)])
    for n in range(5):
        program.noted(f"step {n}.0 by {first.pid}")
    first.signal(signal.SIGSTOP)
    second = program.start(WHO="second")
    results = [run.result(timeout=20) for run in runs]
    assert all(said == [f"{n}.{k} by {second.pid}" for k in range(3)] for n, said in enumerate(results))
    before = db.execute("select run_id, index, recorded_at, value from flowgen.entry order by 1, 2").fetchall()
    rows = db.execute("select * from flowgen.run order by run_id").fetchall()
    program.open("go")
    first.signal(signal.SIGCONT)
    for n in range(5):
        program.noted(f"late {n}.0")
    eventually(lambda: first.pid in [row[0] for row in db.execute("select pid from flowgen.worker where not dead")])
    assert db.execute("select run_id, index, recorded_at, value from flowgen.entry order by 1, 2").fetchall() == before
    assert db.execute("select * from flowgen.run order by run_id").fetchall() == rows
    assert program.errors().count("lease is over") == 1
    assert {run.refresh().recoveries for run in runs} <= {0, 1}
    second.kill()
    after = flowgen_client.start(flowgen.call("long", n=9))
    assert after.result(timeout=20)[0].endswith(f"by {first.pid}"), "it goes on under a new session"


@pytest.mark.fault("F12")
def test_a_transaction_of_a_worker_that_lost_its_lease_is_rolled_back(
    program: Program, flowgen_client: Client, db: Db
) -> None:
    """Nor does it hold its locks for ever: the server ends it."""
    db.execute("create table ledger (who text)")
    db.execute("create table stock as select 10 as left")
    program.write(
        """
def pay(conn):
    conn.execute('update stock set "left" = "left" - 1')
    conn.execute("insert into ledger values (%s)", (os.environ["WHO"],))
    note(f"paid by {os.environ['WHO']}")
    if os.environ["WHO"] == "first":
        gate("go", 60)
        note("late")
    return os.environ["WHO"]

@workflow
def buy() -> Flow[str]:
    return (yield from Transaction(pay))
""",
        settings="Settings(lease=0.6, poll=0.1)",
    )
    first = program.start(WHO="first")
    run = flowgen_client.start(flowgen.call("buy"))
    program.noted("paid by first")
    first.signal(signal.SIGSTOP)
    program.start(WHO="second")
    assert run.result(timeout=20) == "second"
    program.open("go")
    first.signal(signal.SIGCONT)
    program.noted("late")
    eventually(lambda: first.pid in [row[0] for row in db.execute("select pid from flowgen.worker where not dead")])
    assert db.execute("select who from ledger").fetchall() == [("second",)]
    assert db.execute('select "left" from stock').fetchone() == (9,)


def test_terminated_connections_cost_no_run_its_worker(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    db.execute("create table ledger (n int, k int)")
    calls: list[tuple[int, int]] = []

    def pay(conn: Db, n: int, k: int) -> int:
        conn.execute("insert into ledger values (%s, %s)", (n, k))
        return k

    def step(n: int, k: int) -> int:
        calls.append((n, k))
        return k

    @app.task
    def child(n: int) -> int:
        return n

    @app.workflow
    def busy(n: int) -> Flow[int]:
        total = 0
        for k in range(10):
            total += yield from Step(step, n, k)
            total += sum((yield from Gather(Transaction(pay, n, k), Invoke(child, k))))
        return total

    flowgen_worker(app, lease=10)
    runs = flowgen_client.start_many([busy.call(n) for n in range(40)])
    for _ in range(6):
        db.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() "
            "and application_name like 'flowgen %' and pid <> pg_backend_pid() and application_name <> 'flowgen client'"
        )
        seen = len(calls)
        eventually(lambda: len(calls) > seen or all(run.refresh().status.is_final for run in runs))  # noqa: B023
    assert [run.result(timeout=40) for run in runs] == [135] * 40
    assert sorted(calls) == [(n, k) for n in range(40) for k in range(10)]
    assert db.execute("select n, k from ledger order by n, k").fetchall() == sorted(calls)
    assert {run.refresh().recoveries for run in runs} == {0}
    assert db.execute("select count(*) from flowgen.worker where pid = %s", (os.getpid(),)).fetchone() == (1,)


def test_a_definition_that_is_made_after_its_worker_started_is_for_another_one(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    @app.task
    def early() -> int:
        return 1

    flowgen_worker(app)

    @app.task
    def late() -> int:
        return 2

    db.execute("update flowgen.worker set dead = true")
    again = eventually(lambda: db.execute("select names from flowgen.worker where not dead").fetchone())
    assert again == (["early"],)
    waits = flowgen_client.start(late.call())
    assert flowgen_client.start(early.call()).result(timeout=10) == 1
    assert waits.refresh().status == "pending"
    flowgen_worker(app)
    assert waits.result(timeout=10) == 2


@pytest.mark.fault("F11")
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_worker_that_was_stopped_beyond_its_lease_begins_no_call_that_waited(
    program: Program, flowgen_client: Client, db: Db, kind: str
) -> None:
    program.write(
        f"""
{kind} held():
    note(f"held by {{os.environ['WHO']}}")
    if os.environ["WHO"] == "first":
        gate("go", 60)

{kind} second():
    note(f"second by {{os.environ['WHO']}}")

@workflow
def both() -> Flow[str]:
    yield from Gather(Step(held), *[Step(second) for _ in range(20)])
    return "done"
""",
        settings="Settings(lease=1, poll=0.1)",
        more="concurrency=1",
    )
    first = program.start(WHO="first")
    run = flowgen_client.start(flowgen.call("both"))
    program.noted("held by first")
    first.signal(signal.SIGSTOP)
    program.start(WHO="other")
    assert run.result(timeout=20) == "done"
    program.open("go")
    first.signal(signal.SIGCONT)
    eventually(lambda: "lease is over" in program.errors())
    first.signal(signal.SIGTERM)
    assert first.ended() == 0
    assert "second by first" not in program.notes()
