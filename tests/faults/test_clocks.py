"""The clock of a worker's machine is wrong: every time that decides anything is the database's."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import RunFailed
from flowgen.client.queries import RunQuery
from flowgen.client.sync import Client
from tests.e2e.processes import Program
from tests.waiting import eventually

Db = psycopg.Connection[Any]

# The module `time` says another wall clock, and jumps once more on the way. Nobody here asks `datetime` for the time,
# which a test of the rules of the house proves.
WRONG = """
import time as _time

class _Clock:
    offset = float(os.environ["OFFSET"])

_true = {name: getattr(_time, name) for name in ("time", "time_ns", "gmtime", "localtime")}
_time.time = lambda: _true["time"]() + _Clock.offset
_time.time_ns = lambda: _true["time_ns"]() + int(_Clock.offset * 1e9)
_time.gmtime = lambda at=None: _true["gmtime"](_time.time() if at is None else at)
_time.localtime = lambda at=None: _true["localtime"](_time.time() if at is None else at)
"""

WORK = """
def jump():
    if "OFFSET" in os.environ:
        _Clock.offset = -2 * _Clock.offset
    return 1

@workflow
def sleepy() -> Flow[int]:
    one = yield from Step(jump)
    yield Sleep(1)
    return one

def flaky():
    if current().attempt < 2:
        raise ValueError("boom")
    return current().attempt

@workflow
def retried() -> Flow[int]:
    return (yield from Step(flaky).opts(retry=Retry(2, initial=1, jitter=0)))

@workflow
def limited() -> Flow[None]:
    yield Sleep("1h")

@task(cron="* * * * * *")
def tick():
    return None
"""


def check_clock(program: Program, client: Client, db: Db) -> None:
    sleepy, retried = client.start(flowgen.call("sleepy")), client.start(flowgen.call("retried"))
    limited = client.start(flowgen.call("limited").opts(deadline=1.5))
    delayed = client.start(flowgen.call("sleepy").opts(delay=1))
    assert sleepy.result(timeout=20) == 1
    assert retried.result(timeout=20) == 2
    assert delayed.result(timeout=20) == 1
    with pytest.raises(RunFailed):
        limited.result(timeout=20)
    early = db.execute(
        "select count(*) from flowgen.run r join flowgen.entry e using (run_id) where r.finished_at < e.due_at "
        "and r.name <> 'limited'"
    ).fetchone()
    assert early == (0,)
    eventually(lambda: client.count(RunQuery(name="tick")) > 2)
    wrong = db.execute(
        "select r.trigger->>'scheduled_at' from flowgen.run r where r.name = 'tick' "
        "and abs(extract(epoch from r.created_at - (r.trigger->>'scheduled_at')::timestamptz)) > 10"
    ).fetchall()
    assert wrong == []
    assert db.execute("select count(*), max(recoveries) from flowgen.run").fetchone()[1] == 0
    assert db.execute("select count(*) from flowgen.worker").fetchone() == (1,)
    times = db.execute("select recorded_at from flowgen.entry").fetchall()
    assert all(abs(at - datetime.now(UTC)) < timedelta(minutes=5) for (at,) in times)


@pytest.mark.fault("F57")
def test_the_wall_clock_of_a_worker_decides_nothing(program: Program, flowgen_client: Client, db: Db) -> None:
    program.write(WRONG + WORK, settings="Settings(lease=5, poll=0.1)")
    program.start(OFFSET="86400")
    check_clock(program, flowgen_client, db)


@pytest.mark.nightly
@pytest.mark.fault("F57")
@pytest.mark.parametrize("offset", ["+1d", "-1d", "+1h"])
def test_a_worker_under_faketime_is_as_any_other(offset: str, program: Program, flowgen_client: Client, db: Db) -> None:
    found = shutil.which("faketime")
    if found is None:
        pytest.skip("needs faketime (apt install faketime)")
    said = subprocess.run([found, "-f", offset, "env"], capture_output=True, text=True, check=True)
    faked = dict(line.split("=", 1) for line in said.stdout.splitlines() if line.startswith(("LD_PRELOAD", "FAKETIME")))
    program.write(WORK, settings="Settings(lease=5, poll=0.1)")
    program.start(**faked, FAKETIME_DONT_FAKE_MONOTONIC="1")
    check_clock(program, flowgen_client, db)
