"""Many workers: all of them die, follow one another, look alike, or are swept while they work."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from flowgen.client.sync import Client
from flowgen.failpoints import evicting
from flowgen.postgres import database
from flowgen.postgres.database import Schema
from flowgen.postgres.workers import Reaped, reap
from flowgen.testing.workers import Workers
from tests.faults import fleet
from tests.faults.fleet import PATIENCE, Fleet
from tests.waiting import eventually

Db = psycopg.Connection[Any]

CLAIMS = """
CREATE TABLE public.change (claimed int, ended int);
CREATE FUNCTION public.change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.change
    SELECT count(*) FILTER (WHERE n.claim > o.claim), count(*) FILTER (WHERE n.status >= 7 AND o.status < 7)
    FROM o JOIN n USING (run_id);
    RETURN NULL;
END $$;
CREATE TRIGGER change AFTER UPDATE ON flowgen.run REFERENCING OLD TABLE AS o NEW TABLE AS n
    FOR EACH STATEMENT EXECUTE FUNCTION public.change();
"""


@pytest.fixture
def workers(flowgen_database: str, tmp_path: Path) -> Iterator[Fleet]:
    with Fleet(flowgen_database, tmp_path) as made:
        yield made


def left(db: Db) -> int:
    """Runs that have not ended."""
    found = db.execute("select count(*) from flowgen.run where status < 7").fetchone()
    assert found is not None
    return int(found[0])


def connections(db: Db) -> Counter[str]:
    """What the workers have open, by its names."""
    found = db.execute(
        "select application_name from pg_stat_activity where datname = current_database() "
        "and application_name like 'flowgen %' and application_name <> 'flowgen client'"
    ).fetchall()
    return Counter(name for (name,) in found)


def live(db: Db) -> int:
    found = db.execute("select count(*) from flowgen.worker where not dead").fetchone()
    assert found is not None
    return int(found[0])


def drained(db: Db) -> Counter[str]:
    """Wait until every run has ended; the most connections of each name that were open meanwhile."""
    most: Counter[str] = Counter()

    def over() -> bool:
        nonlocal most
        most |= connections(db)
        return not left(db)

    eventually(over, PATIENCE, every=0.005)
    return most


@pytest.mark.fault("F28")
@pytest.mark.parametrize("size", [2_000, pytest.param(10_000, marks=pytest.mark.nightly)])
def test_after_the_end_of_all_workers_new_ones_drain_in_batches_with_few_connections(
    size: int, workers: Fleet, flowgen_client: Client, db: Db
) -> None:
    db.execute(CLAIMS)
    first = workers.start(holds=True)
    flowgen_client.start_many([fleet.nothing.call(-1 - n) for n in range(100)])
    of_one = drained(db)
    assert of_one
    fleet_of_before = [first, *(workers.start(holds=True) for _ in range(3))]
    eventually(lambda: live(db) == 4, PATIENCE)
    flowgen_client.start_many([fleet.nothing.call(n) for n in range(size)])
    eventually(lambda: db.execute("select 1 from flowgen.run where status = 3").fetchone(), PATIENCE)
    workers.kill(*fleet_of_before)
    eventually(lambda: not connections(db), PATIENCE)
    assert left(db) == size
    db.execute("truncate change")

    for _ in range(8):
        workers.start()
    most = drained(db)
    assert most <= Counter({name: 8 * count for name, count in of_one.items()}), (most, of_one)
    found = db.execute(
        "select sum(claimed), count(*) filter (where claimed > 0), sum(ended) from public.change"
    ).fetchone()
    assert found is not None
    claimed, claims, ended = found
    each = 1 + evicting()  # given back after its call, it is claimed once more
    assert (claimed, ended) == (each * size, size)
    assert claims <= each * size // 10, found
    assert db.execute("select distinct status from flowgen.run").fetchall() == [(7,)]
    assert db.execute("select max(recoveries) <= 1 from flowgen.run").fetchone() == (True,)


@pytest.mark.nightly
@pytest.mark.fault("F26")
def test_a_sweep_every_few_milliseconds_takes_nothing_from_a_live_worker_of_very_many_runs(
    flowgen_client: Client, flowgen_worker: Workers, flowgen_database: str, db: Db
) -> None:
    schema, size = Schema(), 5_000
    sweeps: list[Reaped] = []
    over = threading.Event()

    def sweep() -> None:
        with psycopg.connect(flowgen_database, autocommit=True) as conn:
            while not over.wait(0.01):
                sweeps.append(database.run(conn, reap(), schema))

    thread = threading.Thread(target=sweep)
    thread.start()
    try:
        for _ in range(2):
            flowgen_worker(fleet.app, lease=30)
        for begin in range(0, size, 100):
            flowgen_client.start_many([fleet.nothing.call(-1 - n) for n in range(begin, begin + 100)])
        eventually(lambda: not left(db), PATIENCE)
    finally:
        over.set()
        thread.join()
    assert len(sweeps) > 20
    assert {(sweep.dead, sweep.released) for sweep in sweeps} == {((), 0)}
    assert db.execute("select min(claim), max(claim), max(recoveries), max(status) from flowgen.run").fetchone() == (
        1 + evicting(), 1 + evicting(), 0, 7,
    )  # fmt: skip


@pytest.mark.fault("F24")
def test_of_workers_that_look_alike_only_the_runs_of_the_one_that_died_are_recovered(
    workers: Fleet, flowgen_client: Client, db: Db
) -> None:
    alike = {"host": "pod", "pid": 7}
    pids = {name: workers.start(holds=True, name=name, queues=[name], **alike) for name in ("a", "b", "c")}
    eventually(lambda: live(db) == 3, PATIENCE)
    assert db.execute("select distinct host, pid from flowgen.worker").fetchall() == [("pod", 7)]
    runs = flowgen_client.start_many([fleet.noted.call(n).opts(queue="abc"[n % 3]) for n in range(6)])
    eventually(lambda: len(workers.notes()) == 6, PATIENCE)
    taken = {int(number): name for number, name in (line.split() for line in workers.notes())}
    dead = taken[0]
    lost = {n for n in taken if taken[n] == dead}

    def owners() -> dict[int, Any]:
        found = dict(db.execute("select run_id, owner from flowgen.run").fetchall())
        return {n: found[run.uuid] for n, run in enumerate(runs)}

    before = owners()
    assert len({(taken[n], before[n]) for n in taken}) == len(set(taken.values()))
    workers.kill(pids[dead])
    workers.start(name="again", **alike)
    eventually(lambda: len(workers.notes()) == 6 + len(lost), PATIENCE)
    assert {int(line.split()[0]) for line in workers.notes()[6:]} == lost
    for n, run in enumerate(runs):
        shown = run.refresh()
        assert shown.recoveries == (n in lost), n
        if n not in lost:
            assert owners()[n] == before[n]
            assert "pod" in str(flowgen_client.why(run.id))
            row = db.execute("select dead, host, pid from flowgen.worker where worker_id = %s", (before[n],))
            assert row.fetchone() == (False, "pod", 7)
    assert before[0] not in owners().values()
