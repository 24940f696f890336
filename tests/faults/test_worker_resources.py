"""Workers that run out of file descriptors or threads by the limits of the system."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import Run
from flowgen.client.sync import Client
from tests.e2e.processes import Process, Program
from tests.waiting import eventually

Db = psycopg.Connection[Any]

WORK = """
def add(n, more):
    return n + more

async def add_async(n, more):
    return n + more

def pay(conn, n):
    conn.execute("insert into ledger values (%s)", (n,))
    return n

@task
def child(n: int) -> int:
    return n

@workflow
def work(n: int) -> Flow[list[int]]:
    one, two = yield from Gather(Step(add, n, 1), Step(add_async, n, 2))
    paid = yield from Transaction(pay, n)
    mine = yield from Invoke(child, n)
    named = yield from Invoke(child, n).opts(id=f"named {n}")
    yield from Sleep(0.05)
    return [one, two, paid, mine, named, (yield from Step(add, n, 3))]
"""


@contextmanager
def limited(pid: int, what: int, soft: int) -> Iterator[None]:
    """A process that may have no more of this, for the length of the block."""
    before = resource.prlimit(pid, what)
    resource.prlimit(pid, what, (soft, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, what, before)


def finished(worker: Process, program: Program, runs: Sequence[Run[Any]]) -> None:
    """Every run of `WORK` ends as it should, in the worker that began it, and costs no attempt."""
    eventually(lambda: worker.popen.poll() is not None or all(run.refresh().status.is_final for run in runs), 60)
    assert worker.popen.poll() is None, program.errors()
    assert [run.result() for run in runs] == [[n + 1, n + 2, n, n, n, n + 3] for n in range(len(runs))]
    assert all(item.kind != "attempt" for run in runs for item in run.client.history(run.id))
    worker.signal(signal.SIGTERM)
    assert worker.ended() == 0, program.errors()


@pytest.mark.fault("F27")
def test_a_worker_that_has_just_begun_and_can_open_nothing_more_says_so_and_waits_until_it_can(
    program: Program, flowgen_client: Client, db: Db
) -> None:
    db.execute("create table ledger (n int)")
    program.write(WORK)
    worker = program.start()
    with limited(worker.pid, resource.RLIMIT_NOFILE, 3):
        runs = flowgen_client.start_many([flowgen.call("work", n=n) for n in range(20)])
        eventually(lambda: "trying again" in program.errors(), 30)
        assert "many open files" in program.errors()
        assert not any(run.status == "completed" for run in runs)
    finished(worker, program, runs)
    assert db.execute("select max(recoveries) from flowgen.run").fetchone() == (0,)
    assert db.execute("select count(*), count(distinct n) from ledger where n >= 0").fetchone() == (20, 20)


BIG_STACKS = """
from flowgen.postgres import answers
answers._REST = 1 << 30  # its thread stays, and leaves no stack to another one
threading.stack_size(1 << 30)  # so that a limit of the address space is one of the number of threads
"""
SELDOM = "Settings(lease=30, heartbeat=5, poll=5, grace=10)"
OWN = 4
"""Threads of a worker that has nothing to do: its loop, heartbeat, watchdog and watch over answers."""


@contextmanager
def no_thread_more(pid: int) -> Iterator[None]:
    def threads() -> int:
        return len(os.listdir(f"/proc/{pid}/task"))

    def room() -> int | None:
        before = threads()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
        return pages * resource.getpagesize() + (300 << 20) if before == threads() == OWN else None

    with limited(pid, resource.RLIMIT_AS, eventually(room, 30)):
        yield


@pytest.mark.fault("F27")
def test_a_worker_that_can_start_no_thread_says_so_and_claims_nothing_until_it_can(
    program: Program, flowgen_client: Client, db: Db
) -> None:
    db.execute("create table ledger (n int)")
    program.write(BIG_STACKS + WORK, settings=SELDOM)
    worker = program.start()
    with no_thread_more(worker.pid):
        runs = flowgen_client.start_many([flowgen.call("work", n=n) for n in range(20)])
        eventually(lambda: "no thread can be started (can't start new thread): 0 of" in program.errors(), 30)
        later = flowgen_client.start_many([flowgen.call("work", n=n) for n in range(20, 30)])
        eventually(lambda: program.errors().count("can't start new thread") > 1, 30)
        assert {run.refresh().status for run in later} == {"pending"}
        assert {run.refresh().status for run in runs} == {"running"}
    finished(worker, program, [*runs, *later])
    assert db.execute("select max(recoveries) from flowgen.run").fetchone() == (0,)


@pytest.mark.fault("F27")
def test_a_statement_goes_without_its_watch_while_no_thread_can_be_started(program: Program) -> None:
    program.write(
        """
import resource
from flowgen.postgres import answers, database
conn = database.connect(os.environ["FLOWGEN_URL"])

def watched():
    with answers.awaited(conn, os.environ["FLOWGEN_URL"]):
        assert conn.execute("select 1").fetchone() == (1,)
    return answers._watch._thread is not None

threading.stack_size(1 << 30)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
before = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (used + (300 << 20), before[1]))
note(watched())
resource.setrlimit(resource.RLIMIT_AS, before)
note(watched())
os._exit(0)
""",
        main=False,
    )
    assert program.start(workers=0).ended() == 0, program.errors()
    assert program.notes() == ["False", "True"]
