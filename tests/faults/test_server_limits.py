"""Servers that refuse, hang or are set up in a way that nobody told flowgen of."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

import flowgen
from flowgen import App, Settings
from flowgen.errors import DatabaseError
from flowgen.testing.workers import Workers
from flowgen.worker.running import WorkerHandle
from flowgen.worker.worker import Worker
from tests.faults.servers import OwnServer, own_server
from tests.faults.traffic import Traffic, ledger
from tests.waiting import eventually

Db = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    with own_server(tmp_path_factory.mktemp("own") / "server", max_connections="36", max_wal_senders="2") as made:
        yield made


_names = count(1)


@pytest.fixture
def url(server: OwnServer) -> str:
    return server.database(f"limits_{next(_names)}")


@pytest.fixture
def db(server: OwnServer, url: str) -> Iterator[Db]:
    with server.connected(url) as conn:
        ledger(conn)
        yield conn


@pytest.fixture
def workers(url: str) -> Iterator[Workers]:
    made = Workers(url)
    try:
        yield made
    finally:
        made.stop()


def reload(db: Db, **settings: str) -> None:
    """Set the server's settings for everybody; "" takes one back."""
    for name, value in settings.items():
        db.execute(f"alter system set {name} = '{value}'" if value else f"alter system reset {name}")
    db.execute("select pg_reload_conf()")


@pytest.mark.nightly  # it takes all the time that a loaded machine has
@pytest.mark.fault("F48")
def test_workers_of_a_server_with_too_few_connections_work_with_what_they_get(
    url: str, db: Db, app: App, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(lease=10, heartbeat=1, poll=0.1, grace=5)  # with all they would like to have they need 48
    made = [WorkerHandle(lambda: Worker(url, app, settings), False) for _ in range(8)]
    with flowgen.connect(url) as client, ThreadPoolExecutor(8) as pool:
        client.count()
        traffic = Traffic(app, client)
        try:
            started = [pool.submit(each.start) for each in made]
            with traffic:
                eventually(lambda: "too many clients" in caplog.text, 30)
                traffic.goes_on(10, 60)
            traffic.check(db)
            assert all(each.result(60) for each in started)
        finally:
            for each in made:
                each.stop()
    assert db.execute("select max(recoveries) from flowgen.run").fetchone() == (0,)


@pytest.mark.fault("F35")
def test_a_server_that_takes_no_writes_for_a_while_is_waited_for(
    url: str, db: Db, app: App, workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    with flowgen.connect(url) as client:
        traffic = Traffic(app, client)
        workers(app, lease=30, heartbeat=0.5)
        with traffic:
            traffic.goes_on()
            reload(db, default_transaction_read_only="on")
            eventually(lambda: "takes no writes" in caplog.text)
            with pytest.raises(DatabaseError, match="takes no writes") as raised:
                client.start(traffic.work, 0)
            assert (raised.value.sqlstate, raised.value.transient) == ("25006", True)
            db.execute("set default_transaction_read_only = off")
            reload(db, default_transaction_read_only="")
            traffic.goes_on()
        traffic.check(db)


@pytest.mark.fault("F37")
def test_commits_that_wait_for_a_standby_which_never_comes_cost_nobody_a_lease(
    url: str, db: Db, app: App, workers: Workers, server: OwnServer
) -> None:
    with flowgen.connect(url) as client, server.connected(server.url) as other:
        other.execute("set synchronous_commit = local")
        db.execute("set synchronous_commit = local")
        traffic = Traffic(app, client)
        for _ in range(2):
            workers(app, lease=1.5)
        with traffic:
            traffic.goes_on()
            reload(db, synchronous_standby_names="nobody")
            waiting = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'"
            eventually(lambda: other.execute(waiting).fetchone() != (0,))
            hung_at = time.monotonic()
            eventually(lambda: time.monotonic() - hung_at > 3)  # two leases
            # Cancelled: committed here, and answered with a warning.
            cancelled = other.execute(
                "select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'"
            ).fetchall()
            reload(db, synchronous_standby_names="")
            assert (True,) in cancelled
            traffic.goes_on()
        traffic.check(db, again=len(traffic.calls))


@pytest.mark.fault("F56")
def test_timeouts_of_the_role_are_kept_within_or_told(url: str, db: Db, app: App, server: OwnServer) -> None:
    db.execute("create role hasty login superuser")
    db.execute("alter role hasty set statement_timeout = '200ms'")
    db.execute("alter role hasty set lock_timeout = '200ms'")
    db.execute("alter role hasty set idle_in_transaction_session_timeout = '300ms'")
    hasty = re.sub("postgres@", "hasty@", url)
    made = Workers(hasty)
    with flowgen.connect(hasty) as client:
        traffic = Traffic(app, client)
        try:
            made(app, lease=10)
            with traffic:
                traffic.goes_on()
                with db.transaction():
                    db.execute("lock table flowgen.run in access exclusive mode")
                    with pytest.raises(DatabaseError, match="timeout") as raised:
                        client.start(traffic.work, 0)
                    assert raised.value.sqlstate in {"57014", "55P03"}
                    assert raised.value.transient
                traffic.goes_on()
            traffic.check(db)
        finally:
            made.stop()


@pytest.mark.fault("F50")
def test_a_password_that_changes_ends_no_run_and_is_told_to_nobody(
    url: str, db: Db, app: App, server: OwnServer, caplog: pytest.LogCaptureFixture
) -> None:
    """What is connected stays so; what connects anew is refused, by name, until the password fits again."""
    caplog.set_level(logging.DEBUG)
    first, second = "sEcret-one:@/", "sEcret-two"
    db.execute(f"create role keeper login superuser password '{first}'")
    rules = server.rules("local all keeper scram-sha-256")
    given = re.sub("postgres@", f"keeper:{quote(first, safe='')}@", url)
    made = Workers(given)
    try:
        with flowgen.connect(given) as client:
            traffic = Traffic(app, client)
            made(app, lease=20, heartbeat=0.5)
            with traffic:
                traffic.goes_on()
                db.execute(f"alter role keeper password '{second}'")
                end_sessions(db, "flowgen flush")
                end_sessions(db, "flowgen heartbeat")
                eventually(lambda: "password authentication failed" in caplog.text)
                with pytest.raises(DatabaseError, match="password authentication failed"):
                    flowgen.connect(given)
                db.execute(f"alter role keeper password '{first}'")
                traffic.goes_on()
            traffic.check(db)
    finally:
        made.stop()
        rules()
    assert db.execute("select max(recoveries) from flowgen.run").fetchone() == (0,)
    for secret in (first, second, quote(first, safe="")):
        assert secret not in caplog.text
        assert secret not in server.log().replace("alter role keeper", "").replace("create role keeper", "")


def end_sessions(db: Db, name: str) -> None:
    db.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where application_name = %s and datname = current_database()",
        (name,),
    )
