"""Very many children of one run: what each of them costs its parent does not grow with their number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import App, Flow, Gather, Invoke
from flowgen.client.sync import Client
from flowgen.failpoints import evicting
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program
from tests.waiting import eventually


@pytest.mark.skipif(evicting(), reason="each wake-up would replay all that is done")
def test_the_letters_of_very_many_children_are_read_once(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: psycopg.Connection[Any]
) -> None:
    count = 4000

    @app.workflow
    def child(n: int) -> Flow[int]:
        yield from ()
        return n

    @app.workflow
    def parent() -> Flow[int]:
        return sum((yield from Gather(*[Invoke(child, n) for n in range(count)])))

    worker = flowgen_worker(app)
    assert flowgen_client.start(parent).result(timeout=60) == count * (count - 1) // 2
    worker.stop()

    def fetched() -> int:
        row = db.execute("select idx_tup_fetch, n_tup_del from pg_stat_all_tables where relname = 'inbox'").fetchone()
        assert row is not None
        return row[0] if row[1] >= count else 0

    eventually(lambda: fetched() > 0)
    # Each is read once and deleted once. A claim that comes between may read what is not deleted yet.
    assert fetched() <= 4 * count


MANY = """
from flowgen import Map

@task
def step(n: int) -> int:
    return n + 1

@workflow
def child(n: int) -> Flow[int]:
    yield from ()
    return n + 1

@workflow
def of_steps(count: int) -> Flow[int]:
    return len((yield from Map(step, range(count), limit=200)))

@workflow
def of_runs(count: int) -> Flow[int]:
    return len((yield from Map(child, range(count), limit=200)))
"""


def resident(pid: int) -> int:
    """Bytes of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "bound"), [("of_steps", 400), ("of_runs", 400)])
def test_the_memory_of_a_worker_grows_by_little_more_than_the_results(
    program: Program, flowgen_client: Client, db: psycopg.Connection[Any], name: str, bound: int
) -> None:
    few, many = 1_000, 20_000
    program.write(MANY)
    process = program.start()
    flowgen_client.start(flowgen.call(name, count=few)).result(timeout=600)  # what every run needs is there
    run = flowgen_client.start(flowgen.call(name, count=many))
    ended = "select count(*) from flowgen.entry where run_id = %s and kind = 1"
    seen: list[tuple[int, int]] = []

    def done() -> bool:
        row = db.execute(ended, [run.uuid]).fetchone()
        assert row is not None
        seen.append((row[0], resident(process.pid)))
        return row[0] == many

    eventually(done, timeout=1200)
    assert run.result(timeout=60) == many
    (first, before), (last, after) = next(each for each in seen if each[0] >= few), seen[-1]
    assert (after - before) / (last - first) < bound
