"""Locks that cross: whatever two of them do to the same runs at once, nobody deadlocks and no change is lost.

What the server refuses all the same is sent again.
"""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from flowgen import App, Flow, Invoke, Schedule, Sleep, Step, Transaction
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.faults.crossing import NAMES, OPERATIONS, Rounds
from tests.integration.postgres.store import Store
from tests.waiting import eventually

Conn = psycopg.Connection[Any]


@pytest.fixture
def rounds(flowgen_database: str) -> Iterator[Rounds]:
    store = Store.open(flowgen_database)
    with ThreadPoolExecutor(2) as pool:
        yield Rounds(store, pool)
    store.close()


def deadlocks(store: Store) -> int:
    """As the server counts them, also those after which somebody has tried again."""
    for conn in store.opened[1:]:
        conn.close()
    store.sql("SELECT pg_stat_clear_snapshot()")
    return int(store.one("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"))


def check_all_pairs(rounds: Rounds, seconds: float, least: int) -> None:
    """Each pair with a row locked that both may want, then with none, `least` times, and on until the time is over."""
    end = time.monotonic() + seconds
    for turn in itertools.count():
        if turn >= 2 * least and time.monotonic() > end:
            break
        for number, pair in enumerate(itertools.combinations_with_replacement(OPERATIONS, 2)):
            held = random.choice(NAMES) if turn % 2 == 0 else None
            rounds.play(pair, f"{turn} {number}", held=held)
    assert deadlocks(rounds.store) == 0


@pytest.mark.fault("F46")
def test_no_two_operations_on_the_same_runs_deadlock_or_lose_a_change(rounds: Rounds) -> None:
    check_all_pairs(rounds, 4, 1)


@pytest.mark.nightly
@pytest.mark.timeout(900)
@pytest.mark.fault("F46")
def test_no_two_operations_deadlock_or_lose_a_change_in_many_rounds(rounds: Rounds) -> None:
    check_all_pairs(rounds, 120, 5)


# --- what happens all the same is tried again


STOPS = """
CREATE FUNCTION public.stop() RETURNS trigger LANGUAGE plpgsql
AS 'BEGIN PERFORM pg_advisory_xact_lock_shared(46); RETURN NULL; END';
CREATE TRIGGER stop AFTER INSERT ON flowgen.entry EXECUTE FUNCTION public.stop();
"""


@pytest.mark.fault("F46")
def test_a_flush_that_a_foreign_session_drove_into_a_deadlock_is_sent_again(
    app: App, db: Conn, flowgen_database: str, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    """It holds the worker's row and goes on to a schedule; somebody who has that one waits for the worker's row."""
    calls: Counter[str] = Counter()

    def count(name: str) -> None:
        calls[name] += 1

    @app.task
    def report() -> None: ...

    @app.workflow
    def sets(cron: str) -> Flow[None]:
        yield Schedule(report.call(), "nightly", cron=cron)
        yield Step(count, cron)

    db.execute(STOPS)
    db.execute(f"ALTER DATABASE {db.info.dbname} SET deadlock_timeout = '20ms'".encode())
    worker = flowgen_worker(app, lease=120)
    flowgen_client.start(sets, "0 3 * * *").result(timeout=30)

    mine = "datname = current_database() AND application_name = 'flowgen flush'"
    stands = f"SELECT pid FROM pg_stat_activity WHERE {mine} AND wait_event = 'advisory'".encode()
    crossed = f"SELECT pid FROM pg_stat_activity WHERE {mine} AND pid = ANY (pg_blocking_pids(%s))".encode()
    with psycopg.connect(flowgen_database) as foreign, ThreadPoolExecutor(1) as pool:
        foreign.execute("SET deadlock_timeout = '1h'")
        foreign.execute("SELECT FROM flowgen.schedule FOR UPDATE")
        db.execute("SELECT pg_advisory_lock(46)")
        run = flowgen_client.start(sets, "0 4 * * *")
        eventually(lambda: db.execute(stands).fetchone(), timeout=30)
        crosses = pool.submit(foreign.execute, "SELECT FROM flowgen.worker FOR UPDATE")
        eventually(lambda: db.execute(crossed, (foreign.info.backend_pid,)).fetchone(), timeout=30)
        db.execute("SELECT pg_advisory_unlock(46)")
        crosses.result(30)
    run.result(timeout=30)
    assert calls == {"0 3 * * *": 1, "0 4 * * *": 1}
    assert db.execute("SELECT cron FROM flowgen.schedule").fetchall() == [("0 4 * * *",)]
    assert (run.refresh().attempt, run.refresh().recoveries) == (1, 0)
    worker.stop()  # a session that ends tells at once what it has counted
    counted = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    eventually(lambda: db.execute(counted).fetchone() >= (1,), timeout=30)  # type: ignore[operator]


REFUSALS = """
CREATE TABLE public.refusal (share float NOT NULL);
INSERT INTO public.refusal VALUES (0);
CREATE SEQUENCE public.refused_40001;
CREATE SEQUENCE public.refused_55p03;
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF random() < (SELECT share FROM public.refusal) THEN
        IF random() < 0.5 THEN
            PERFORM nextval('public.refused_40001');
            RAISE 'could not serialize access' USING ERRCODE = '40001';
        END IF;
        PERFORM nextval('public.refused_55p03');
        RAISE 'could not obtain lock' USING ERRCODE = '55P03';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER refuse AFTER INSERT OR UPDATE ON flowgen.run EXECUTE FUNCTION public.refuse();
CREATE TRIGGER refuse AFTER INSERT ON flowgen.entry EXECUTE FUNCTION public.refuse();
CREATE TRIGGER refuse AFTER UPDATE ON flowgen.worker EXECUTE FUNCTION public.refuse();
CREATE TABLE public.paid (n int);
"""


def refused(db: Conn) -> tuple[int, int]:
    row = db.execute("SELECT a.last_value, b.last_value FROM refused_40001 a, refused_55p03 b").fetchone()
    assert row is not None
    return row


@pytest.mark.fault("F47")
def test_statements_that_the_server_refuses_for_others_sake_cost_no_attempt_and_no_call(
    app: App, db: Conn, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    """One statement in ten is, of those that write runs, histories and leases."""
    calls: Counter[tuple[str, int]] = Counter()

    def add(name: str, n: int) -> int:
        calls[name, n] += 1
        return n + 1

    def pay(conn: Conn, n: int) -> int:
        conn.execute("INSERT INTO public.paid VALUES (%s)", (n,))
        return n

    @app.task
    def child(n: int) -> int:
        calls["child", n] += 1
        return n

    @app.workflow
    def works(n: int) -> Flow[int]:
        total = yield from Step(add, "first", n)
        total += yield from Transaction(pay, n)
        total += yield from Invoke(child, n)
        yield Sleep(seconds=0.05)
        total += yield from Invoke(child, -n).opts(id=f"child {n}")
        return total + (yield from Step(add, "last", n))

    db.execute(REFUSALS)
    flowgen_worker(app, lease=30)
    many = 150
    db.execute("UPDATE refusal SET share = 0.1")
    runs = flowgen_client.start_many([works.call(n) for n in range(1, many + 1)])
    assert [run.result(timeout=100) for run in runs] == [3 * n + 2 for n in range(1, many + 1)]
    db.execute("UPDATE refusal SET share = 0")
    assert set(calls.values()) == {1}
    assert len(calls) == 4 * many
    assert db.execute("SELECT n FROM paid ORDER BY n").fetchall() == [(n,) for n in range(1, many + 1)]
    most = "SELECT max(attempt), max(recoveries), (SELECT max(attempt) FROM flowgen.entry) FROM flowgen.run"
    assert db.execute(most).fetchone() == (1, 0, 1)
    assert min(refused(db)) > 5


@pytest.mark.fault("F47")
@pytest.mark.parametrize("state", ["40001", "55P03"])
def test_what_the_server_goes_on_refusing_is_tried_again_ever_less_often(
    app: App, db: Conn, flowgen_client: Client, flowgen_worker: Workers, state: str
) -> None:
    calls = 0

    def step() -> int:
        nonlocal calls
        calls += 1
        return 1

    @app.workflow
    def one() -> Flow[int]:
        return (yield from Step(step))

    db.execute(
        f"CREATE SEQUENCE refused; CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"PERFORM nextval('public.refused'); RAISE 'not now' USING ERRCODE = '{state}'; END $$;"
        "CREATE TRIGGER refuse AFTER INSERT ON flowgen.entry EXECUTE FUNCTION public.refuse()".encode()
    )
    flowgen_worker(app)
    began = time.monotonic()
    run = flowgen_client.start(one)
    eventually(lambda: db.execute("SELECT FROM refused WHERE last_value >= 5").fetchone() is not None, timeout=30)
    assert time.monotonic() - began > 0.3
    db.execute("DROP TRIGGER refuse ON flowgen.entry")
    assert run.result(timeout=30) == 1
    assert (calls, run.refresh().attempt, run.refresh().recoveries) == (1, 1, 0)
