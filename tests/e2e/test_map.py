"""Map on a real worker: how many items are under way, very many of them, and a worker that is killed in the middle."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import App, Flow, Map
from flowgen.client.sync import Client
from flowgen.failpoints import evicting
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program


class Overlap:
    """How many calls were under way at once. Each waits until `met` others are, so that these are seen to overlap."""

    def __init__(self, met: int) -> None:
        self._barrier = threading.Barrier(met)
        self._lock = threading.Lock()
        self._now = 0
        self.most = 0

    def __call__(self) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        self._barrier.wait(20)
        time.sleep(0.2)  # so that one too many would be seen
        with self._lock:
            self._now -= 1


@pytest.mark.parametrize("as_runs", [False, True], ids=["steps", "child runs"])
def test_as_many_as_the_limit_overlap_and_never_more(
    app: App, flowgen_client: Client, flowgen_worker: Workers, as_runs: bool
) -> None:
    overlap = Overlap(3)

    @app.task
    def work(n: int) -> int:
        overlap()
        return n * n

    @app.workflow
    def parent() -> Flow[list[int]]:
        return (yield from Map(work, range(12), limit=3).opts(as_runs=as_runs))

    flowgen_worker(app, concurrency=12)
    assert flowgen_client.start(parent).result(timeout=30) == [n * n for n in range(12)]
    assert overlap.most == 3


MANY = """
from flowgen import Map

@workflow
def child(n: int) -> Flow[int]:
    yield Sleep(0.001 if n % 100 == 0 else 0)
    return n * 3

@workflow
def parent_of_many(count: int, limit: int) -> Flow[list[int]]:
    return (yield from Map(child, range(count), limit=limit))
"""


def resident(pid: int) -> int:
    """MiB of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) // 1024


def children(db: psycopg.Connection[Any]) -> tuple[int, int]:
    """How many have not finished, and how many have."""
    row = db.execute(
        "select count(*) filter (where finished_at is null), count(finished_at) from flowgen.run where name = 'child'"
    ).fetchone()
    assert row is not None
    return row[0], row[1]


@pytest.mark.skipif(evicting(), reason="each wake-up would replay all that is done")
@pytest.mark.parametrize(
    "count", [5_000, pytest.param(100_000, marks=[pytest.mark.nightly, pytest.mark.timeout(7200)])]
)
def test_very_many_children_are_bounded_and_in_order_though_a_worker_is_killed(
    program: Program, flowgen_client: Client, db: psycopg.Connection[Any], count: int
) -> None:
    limit = 500
    program.write(MANY)
    process = program.start()
    begin = resident(process.pid)
    run = flowgen_client.start(flowgen.call("parent_of_many", count=count, limit=limit))
    most, done, killed = 0, 0, False
    while done < count:
        unfinished, done = children(db)
        assert db.execute("select error from flowgen.run where name = 'parent_of_many'").fetchone() == (None,), (
            "it is parked"
        )
        most = max(most, unfinished)
        if 2 * done > count and not killed:
            process.kill()
            process, killed = program.start(), True
    assert run.result(timeout=60) == [3 * n for n in range(count)]
    assert most <= limit
    # Its place in the history and what it came to is kept of each item; what made it is not.
    assert (resident(process.pid) - begin) * 1024 < 20 * 1024 + 4 * count
