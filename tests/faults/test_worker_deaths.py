"""Workers that die, that look alike, and that lose no more than their lease."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import App, Flow, RunFailed, Step, StepContext
from flowgen.client.queries import RunQuery
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program
from tests.proxy import Proxy
from tests.waiting import eventually

Db = psycopg.Connection[Any]


@pytest.mark.fault("F17", "F18")
def test_a_run_that_ends_its_processes_by_a_segfault_fails_as_poison_beside_a_supervisor(
    program: Program, flowgen_client: Client
) -> None:
    program.write(
        """
import ctypes, resource
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

def bite():
    note(f"bite {os.getpid()}")
    ctypes.string_at(0)

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
        settings="Settings(lease=60, poll=0.1, max_recoveries=1)",
        more="processes=2",
    )
    supervisor = program.start(workers=2)
    others = flowgen_client.start_many([flowgen.call("neighbour", n=n) for n in range(200)])
    bad = flowgen_client.start(flowgen.call("poison"))
    with pytest.raises(RunFailed, match="PoisonRun") as told:
        bad.result(timeout=60)
    bites = [each.split()[1] for each in program.notes()]
    assert len(set(bites)) == 3
    assert [each.rpartition("pid ")[2] for each in told.value.failure.details["workers"]] == [f"{n})" for n in bites]
    assert [run.result(timeout=20) for run in others] == [*range(200)]
    assert supervisor.popen.poll() is None


@pytest.mark.fault("F28")
def test_what_was_due_when_all_workers_died_is_drained_by_the_next_with_few_connections(
    program: Program, flowgen_client: Client, db: Db
) -> None:
    program.write(
        """
def step(n):
    if os.environ["WHO"] == "first":
        note("held")
        gate("never", 60)
    return n

@workflow
def one(n: int) -> Flow[int]:
    return (yield from Step(step, n))
""",
        settings="Settings(lease=1.5, poll=0.1)",
        more="concurrency=4",
    )
    first = [program.start(WHO="first") for _ in range(2)]
    flowgen_client.start_many([flowgen.call("one", n=n) for n in range(2000)])
    program.noted("held", 8)
    for each in first:
        each.kill()
    db.execute("select pg_stat_reset()")
    for _ in range(3):
        program.start(WHO="second", workers=0)
    most = 0

    def drained() -> bool:
        nonlocal most
        row = db.execute(
            "select count(*) from pg_stat_activity where datname = current_database() and application_name like "
            "'flowgen %' and application_name <> 'flowgen client'"
        ).fetchone()
        most = max(most, row[0] if row else 0)
        return flowgen_client.count(RunQuery(status="completed")) == 2000

    eventually(drained, timeout=60)
    assert most <= 3 * 6
    assert flowgen_client.count(RunQuery(status="failed")) == 0


@pytest.mark.fault("F15")
def test_a_worker_whose_heartbeat_alone_is_cut_off_gives_its_runs_up_before_others_have_them(
    app: App, flowgen_client: Client, far_worker: Workers, flowgen_worker: Workers, proxy: Proxy
) -> None:
    order: list[str] = []

    @app.task
    def step(ctx: StepContext) -> str:
        if not order:
            order.append("begun")
            assert ctx.signal.wait(20)
            order.append("given up")
            return "late"
        order.append("elsewhere")
        return "by another"

    @app.workflow
    def one() -> Flow[str]:
        return (yield from Step(step))

    far_worker(app, lease=1.5, heartbeat=0.3, poll=0.1)
    run = flowgen_client.start(one)
    eventually(lambda: order)
    flowgen_worker(app, lease=60, poll=0.1)
    proxy.blackhole("flowgen heartbeat")
    assert run.result(timeout=20) == "by another"
    assert order == ["begun", "given up", "elsewhere"]
    assert [item.kind for item in flowgen_client.history(run.id)] == ["outcome"]
    proxy.pass_through()
    eventually(lambda: run.refresh().recoveries == 0)
