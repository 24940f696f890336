"""What a function does to its own process: it leaves, takes all memory, forks, ignores that it is cancelled."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import App, Flow, Retry, RunFailed, Step
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from flowgen.worker import threads
from tests.e2e.processes import Program
from tests.waiting import eventually

Db = psycopg.Connection[Any]


@pytest.mark.fault("F16", "F21")
def test_a_function_that_leaves_or_takes_all_memory_fails_its_attempt_and_one_that_is_interrupted_stops_the_worker(
    program: Program, flowgen_client: Client, db: Db
) -> None:
    program.write(
        """
import resource

def leave():
    note("leave")
    raise SystemExit(3)

def swell():
    note("swell")
    pages = int(open("/proc/self/statm").read().split()[0])
    limit = pages * resource.getpagesize() + (200 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    try:
        return len(bytearray(400 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

def interrupt():
    note("interrupt")
    if os.environ["WHO"] == "first":
        raise KeyboardInterrupt
    return "done"

def fine(n):
    return n

@workflow
def does(what: str) -> Flow[str]:
    return (yield from Step(globals()[what]).opts(retry=Retry(2, initial=0.01)))

@workflow
def neighbour(n: int) -> Flow[int]:
    for _ in range(20):
        n += yield from Step(fine, 1)
    return n
""",
        settings="Settings(lease=60, poll=0.1)",
    )
    first = program.start(WHO="first")
    neighbours = flowgen_client.start_many([flowgen.call("neighbour", n=n) for n in range(50)])
    for what, told in (("leave", "SystemExit"), ("swell", "MemoryError")):
        with pytest.raises(RunFailed, match=told):
            flowgen_client.start(flowgen.call("does", what=what)).result(timeout=20)
        assert program.notes().count(what) == 2, "a failed attempt like any other"
    assert [run.result(timeout=20) for run in neighbours] == [n + 20 for n in range(50)]
    assert db.execute("select count(*) from flowgen.worker").fetchone() == (1,)
    run = flowgen_client.start(flowgen.call("does", what="interrupt"))
    assert first.ended() == 0
    assert run.refresh().status == "pending"
    program.start(WHO="second")
    assert run.result(timeout=10) == "done"
    assert [item.kind for item in flowgen_client.history(run.id)] == ["outcome"]
    assert run.refresh().recoveries == 0


@pytest.mark.fault("F23")
def test_a_child_that_a_function_forks_uses_no_connection_of_the_worker(
    program: Program, flowgen_client: Client, db: Db
) -> None:
    program.write(
        """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)

def fork(how):
    pid = os.fork()
    if pid == 0:
        note(f"child {how}")
        if how == "raises":
            raise ValueError("in the child")
        return "the child"
    return os.waitpid(pid, 0)[1]

async def fork_async(how):
    return fork(how)

def fork_in_transaction(conn, how):
    conn.execute("select 1")
    return fork(how)

@workflow
def forks(how: str) -> Flow[list[int]]:
    found = []
    for _ in range(3):
        found.append((yield from Step(fork, how)))
        found.append((yield from Step(fork_async, how)))
        found.append((yield from Transaction(fork_in_transaction, how)))
    return found
""",
        settings="Settings(lease=60, poll=0.1)",
    )
    process = program.start()
    runs = [flowgen_client.start(flowgen.call("forks", how=how)) for how in ("returns", "raises")]
    assert [run.result(timeout=20) for run in runs] == [[0] * 9] * 2
    assert {run.refresh().recoveries for run in runs} == {0}
    assert program.notes().count("child returns") == program.notes().count("child raises") == 9
    assert db.execute("select count(*) from flowgen.worker").fetchone() == (1,)
    process.signal(signal.SIGTERM)
    assert process.ended() == 0
    assert "does not answer" not in program.errors()


@pytest.mark.fault("F22")
def test_a_task_that_ignores_its_cancellation_keeps_no_place_and_its_result_is_refused(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    let_go = threading.Event()
    ended: list[str] = []

    async def deaf() -> str:
        while not let_go.is_set():
            try:
                await asyncio.sleep(0.05)
            except asyncio.CancelledError:
                pass
        ended.append("deaf")
        return "too late"

    async def fine() -> str:
        return "fine"

    @app.workflow
    def waits() -> Flow[str]:
        return (yield from Step(deaf).opts(timeout=0.1, retry=Retry(1)))

    @app.workflow
    def free() -> Flow[str]:
        return (yield from Step(fine))

    flowgen_worker(app, concurrency=1)
    run = flowgen_client.start(waits)
    other = flowgen_client.start(free)
    with pytest.raises(RunFailed, match="timeout"):
        run.result(timeout=10)
    assert other.result(timeout=10) == "fine"
    let_go.set()
    eventually(lambda: ended == ["deaf"])
    assert [flowgen_client.start(free).result(timeout=10) for _ in range(3)] == ["fine"] * 3
    assert [item.kind for item in flowgen_client.history(run.id)] == ["outcome"]


@pytest.mark.fault("F27")
def test_a_worker_that_can_open_nothing_more_says_so_waits_and_goes_on(
    program: Program, flowgen_client: Client, db: Db
) -> None:
    program.write(
        """
import resource

def hoard():
    held = []
    try:
        while True:
            held.append(open("/dev/null"))
    except OSError as error:
        with held.pop():  # a note is a file too
            number = error.errno
        note(f"full {number}")
        held.append(open("/dev/null"))
    gate("go", 60)
    for each in held:
        each.close()
    return len(held)

def pay(conn, n):
    return conn.execute("select %s::int", (n,)).fetchone()[0]

def fine(n):
    return n

@workflow
def hoards() -> Flow[int]:
    return (yield from Step(hoard))

@workflow
def pays(n: int) -> Flow[int]:
    return (yield from Transaction(pay, n)) + (yield from Step(fine, n))

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
    flowgen.run(settings=Settings(lease=60, poll=0.1), concurrency=12)
""",
        main=False,
    )
    process = program.start()
    flowgen_client.start(flowgen.call("hoards"))
    program.noted("full 24")
    runs = flowgen_client.start_many([flowgen.call("pays", n=n) for n in range(5)])
    eventually(lambda: "does not answer" in program.errors(), timeout=20)
    assert process.popen.poll() is None
    program.open("go")
    assert [run.result(timeout=30) for run in runs] == [2 * n for n in range(5)]
    assert {run.refresh().recoveries for run in runs} == {0}
    assert db.execute("select count(*) from flowgen.worker").fetchone() == (1,)


@pytest.mark.fault("F27")
def test_a_machine_that_gives_no_more_threads_is_asked_again(
    app: App,
    flowgen_client: Client,
    flowgen_worker: Workers,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    refused: list[None] = []
    start = threading.Thread.start

    def exhausted(thread: threading.Thread) -> None:
        if thread.name == "flowgen-step" and len(refused) < 2:
            refused.append(None)
            raise RuntimeError("can't start new thread")
        start(thread)

    def fine(n: int) -> int:
        return n

    @app.workflow
    def one(n: int) -> Flow[int]:
        return (yield from Step(fine, n))

    monkeypatch.setattr(threads.threading.Thread, "start", exhausted)
    flowgen_worker(app, lease=60)
    runs = flowgen_client.start_many([one.call(n) for n in range(10)])
    assert [run.result(timeout=20) for run in runs] == [*range(10)]
    assert "no thread can be started" in caplog.text


@pytest.mark.fault("F14")
def test_a_function_that_holds_the_event_loop_for_longer_than_the_lease_costs_no_lease(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    calls: list[str] = []

    async def block() -> int:
        calls.append("block")
        time.sleep(2.5)  # noqa: ASYNC251 - what must not be done
        return 1

    def beside() -> int:
        calls.append("beside")
        return 2

    @app.workflow
    def blocks() -> Flow[int]:
        return (yield from Step(block))

    @app.workflow
    def neighbour() -> Flow[int]:
        return (yield from Step(beside))

    flowgen_worker(app, lease=0.8, poll=0.1)
    flowgen_worker(app, lease=0.8, poll=0.1)
    runs = [flowgen_client.start(blocks), flowgen_client.start(neighbour)]
    assert [run.result(timeout=20) for run in runs] == [1, 2]
    assert sorted(calls) == ["beside", "block"]
    assert {run.refresh().recoveries for run in runs} == {0}
    assert db.execute("select count(*) from flowgen.worker where pid = %s", (os.getpid(),)).fetchone() == (2,)
