"""The sessions of a worker are ended, cancelled and refused one by one, while it works."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import App
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.faults.traffic import Traffic, ledger
from tests.waiting import eventually

Db = psycopg.Connection[Any]

OURS = "datname = current_database() and application_name like 'flowgen %' and pid <> pg_backend_pid()"


def sessions(db: Db) -> dict[str, int]:
    """The sessions of the worker, by their names."""
    found = db.execute(
        f"select application_name, pid from pg_stat_activity where {OURS} and application_name <> 'flowgen client'"
    ).fetchall()
    return dict(found)


@pytest.mark.fault("F31")
def test_each_session_that_is_ended_is_rebuilt_and_does_its_work_again(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    ledger(db)
    traffic = Traffic(app, flowgen_client)
    flowgen_worker(app, lease=30, heartbeat=0.5, poll=5)
    with traffic:
        eventually(lambda: len(sessions(db)) >= 6)
        for name, pid in sessions(db).items():
            db.execute("select pg_terminate_backend(%s)", (pid,))
            eventually(lambda: sessions(db).get(name, pid) != pid)  # noqa: B023
    traffic.check(db)
    assert db.execute("select max(recoveries) from flowgen.run").fetchone() == (0,)


@pytest.mark.fault("F31")
def test_a_worker_whose_listening_session_was_ended_is_woken_at_once_again(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    @app.task
    def one(n: int) -> int:
        return n

    flowgen_worker(app, lease=30, heartbeat=0.5, poll=60)
    listening = eventually(lambda: sessions(db)["flowgen heartbeat"])
    db.execute("select pg_terminate_backend(%s)", (listening,))
    eventually(lambda: sessions(db).get("flowgen heartbeat", listening) != listening)

    def quick() -> bool:
        began = time.monotonic()
        for n in range(5):  # one alone may be found by a look that was due
            flowgen_client.start(one, n).result(timeout=30)
        return time.monotonic() - began < 1.0

    eventually(quick, timeout=30)


@contextmanager
def often(what: Any, seconds: float) -> Iterator[list[int]]:
    """Do it again and again, on a thread, for the length of the block; what it gave."""
    over, done = threading.Event(), list[int]()

    def go_on() -> None:
        while not over.wait(seconds):
            done.append(what())

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield done
    finally:
        over.set()
        thread.join()


@pytest.mark.fault("F32")
def test_statements_that_are_cancelled_at_any_moment_are_nobodys_error(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_database: str, db: Db
) -> None:
    ledger(db)
    traffic = Traffic(app, flowgen_client, pause=0.01)
    flowgen_worker(app, lease=30, heartbeat=0.2)
    with psycopg.connect(flowgen_database, autocommit=True) as other:

        def cancel() -> int:
            found = other.execute(
                f"select count(*) from (select pg_cancel_backend(pid) from pg_stat_activity where {OURS} "
                "and state = 'active' order by random() limit 3) x"
            ).fetchone()
            assert found is not None
            return int(found[0])

        with traffic, often(cancel, 0.05) as cancelled:
            eventually(lambda: sum(cancelled) > 30, 60)
            traffic.goes_on(20)
    traffic.check(db)
    assert db.execute("select max(recoveries) from flowgen.run").fetchone() == (0,)
    assert db.execute("select count(*) from flowgen.worker").fetchone() == (1,)


@pytest.mark.fault("F47")
@pytest.mark.parametrize("sqlstate", ["40001", "55P03", "40P01", "53200"])
def test_errors_that_pass_are_tried_again_and_charged_to_nobody(
    sqlstate: str, app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    """The server itself raises it, at one in ten writes of runs, entries and sessions."""
    ledger(db)
    db.execute(
        "create function trouble() returns trigger language plpgsql as $$ begin "
        f"if random() < 0.1 then raise exception 'trouble' using errcode = '{sqlstate}'; end if; return null; end $$"
    )
    traffic = Traffic(app, flowgen_client)
    flowgen_worker(app, lease=30, heartbeat=0.2)
    for table in ("run", "entry", "worker"):
        db.execute(
            f"create trigger trouble before insert or update on flowgen.{table} "
            "for each statement execute function trouble()"
        )
    with traffic:
        traffic.goes_on(20, 60)
    traffic.check(db)
    assert not traffic.unknown
    assert db.execute("select max(recoveries) from flowgen.run").fetchone() == (0,)


@pytest.mark.fault("F47")
def test_trouble_that_does_not_pass_ends_the_patience_of_a_client(flowgen_client: Client, app: App, db: Db) -> None:
    @app.task
    def one() -> int:
        return 1

    db.execute(
        "create function trouble() returns trigger language plpgsql as $$ begin "
        "raise exception 'trouble' using errcode = '40001'; end $$"
    )
    db.execute("create trigger trouble before insert on flowgen.run for each statement execute function trouble()")
    began = time.monotonic()
    with pytest.raises(flowgen.DatabaseError, match="trouble") as raised:
        flowgen_client.start(one)
    assert raised.value.transient
    assert time.monotonic() - began < 30
