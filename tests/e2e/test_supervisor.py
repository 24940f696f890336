"""Several processes under one supervisor."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import flowgen
from flowgen.client.queries import RunQuery
from flowgen.client.sync import Client
from tests.e2e.processes import Program
from tests.waiting import eventually

SOURCE = """
def step(n):
    note(f"step {n} by {os.getpid()}")
    if n == 0 and not os.path.exists(os.environ["NOTES"] + ".go"):
        gate("go", 60)
    return os.getpid()

@workflow
def one(n: int) -> Flow[int]:
    return (yield from Step(step, n))
"""


def test_the_runs_of_a_killed_process_go_on_at_once(program: Program, flowgen_client: Client) -> None:
    program.write(SOURCE, settings="Settings(lease=60, poll=0.1)", more="processes=2")
    supervisor = program.start(workers=2)
    run = flowgen_client.start(flowgen.call("one", n=0))
    pid = int(eventually(lambda: [each for each in program.notes() if each.startswith("step 0")])[0].split()[-1])
    assert len(supervisor.children()) == 2
    program.open("go")
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    other = run.result(timeout=10)
    assert time.monotonic() - killed < 1
    assert other != pid
    eventually(lambda: len([each for each in supervisor.children() if each != pid]) == 2, timeout=20)
    assert flowgen_client.start(flowgen.call("one", n=1)).result(timeout=10)
    supervisor.signal(signal.SIGTERM)
    assert supervisor.ended() == 0
    assert supervisor.children() == []


def test_a_killed_supervisor_takes_its_processes_along(program: Program, flowgen_client: Client) -> None:
    program.write(SOURCE, settings="Settings(lease=60, poll=0.1)", more="processes=2")
    supervisor = program.start(workers=2)
    assert len(supervisor.children()) == 2
    supervisor.kill()
    eventually(lambda: supervisor.children() == [], timeout=15)
    late = flowgen_client.start(flowgen.call("one", n=1))
    assert late.refresh().status == "pending"
    assert flowgen_client.count(RunQuery(status="running")) == 0


def test_a_process_whose_supervisor_died_before_it_had_begun_ends_in_order(program: Program, db: Any) -> None:
    loading = """
if __name__ == "__mp_main__":
    note(f"loading {os.getpid()}")
    gate("load")
"""
    program.write(SOURCE + loading, settings="Settings(lease=60, poll=0.1)", more="processes=2")
    supervisor = program.start(workers=0)
    eventually(lambda: len(program.notes()) == 2, timeout=30)
    supervisor.kill()
    program.open("load")
    places = [Path(f"/proc/{note.split()[-1]}") for note in program.notes()]
    eventually(lambda: not any(place.exists() for place in places), timeout=30)
    assert "Traceback" not in program.errors()
    assert db.execute("select count(*) from flowgen.worker where not dead").fetchone() == (0,)


def test_an_unguarded_main_module_is_told_about_the_guard(program: Program) -> None:
    program.write(SOURCE + "\nflowgen.run(processes=2, settings=Settings(lease=2))\n", main=False)
    process = program.start(workers=0)
    eventually(lambda: '__name__ == "__main__"' in program.errors(), timeout=20)
    process.signal(signal.SIGTERM)
    process.ended()
