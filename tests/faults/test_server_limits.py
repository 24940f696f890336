"""Servers that refuse, hang or are set up in a way that nobody told flowgen of."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import count
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

import flowgen
from flowgen import App, Flow, Settings, Transaction
from flowgen.errors import DatabaseError
from flowgen.testing.workers import Workers
from flowgen.worker import dialler
from flowgen.worker.running import WorkerHandle
from flowgen.worker.transactor import CONNECTIONS
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


@contextmanager
def full(server: OwnServer) -> Iterator[list[Db]]:
    """A server without a free connection: these hold what was left."""
    with ExitStack() as stack:
        held: list[Db] = []
        with suppress(psycopg.OperationalError):
            while True:
                held.append(stack.enter_context(closing(psycopg.connect(server.url, autocommit=True))))
        yield held


def of_workers(db: Db, name: str) -> int:
    found = db.execute(
        "select count(*) from pg_stat_activity where datname = current_database() and application_name = %s",
        (f"flowgen {name}",),
    ).fetchone()
    assert found is not None
    return int(found[0])


class Blocking:
    """Transactions that go on when they are let go."""

    def __init__(self, app: App) -> None:
        self.go = threading.Event()
        self.calls: list[int] = []

        def blocks(conn: Db, n: int) -> int:
            self.calls.append(n)
            assert self.go.wait(60)
            conn.execute("insert into ledger values (%s, 'x')", (n,))
            return n

        @app.workflow(name="blocking")
        def work(n: int) -> Flow[int]:
            return (yield from Transaction(blocks, n))

        self.work = work


@pytest.mark.fault("F48")
def test_a_transaction_gets_the_connection_that_another_worker_does_not_use(
    url: str, db: Db, app: App, server: OwnServer, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialler, "KEPT", 0.2)
    blocking = Blocking(app)
    with flowgen.connect(url) as client:
        workers(app, queues=["a"], concurrency=20)
        runs = [client.start(blocking.work.call(n).opts(queue="a")) for n in range(CONNECTIONS)]
        eventually(lambda: len(blocking.calls) == CONNECTIONS, 30)
        with full(server) as held:
            for _ in range(2):
                held.pop().close()
            workers(app, queues=["b"], concurrency=20)
            eventually(lambda: of_workers(db, "heartbeat") == 2, 30)
            run = client.start(blocking.work.call(100).opts(queue="b"))
            assert 100 not in blocking.calls
            blocking.go.set()
            assert [each.result(30) for each in runs] == list(range(CONNECTIONS))
            assert run.result(30) == 100
    assert db.execute("select max(recoveries) from flowgen.run").fetchone() == (0,)


@pytest.mark.fault("F48")
def test_a_worker_whose_transactions_wait_for_connections_claims_no_more_and_says_so_once(
    url: str, db: Db, app: App, server: OwnServer, workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    blocking = Blocking(app)

    @app.task(name="plain")
    def plain() -> int:
        return 1

    with flowgen.connect(url) as client:
        workers(app, heartbeat=0.1, lease=20, concurrency=20)
        client.start(plain).result(30)
        with full(server):
            runs = [client.start(blocking.work, n) for n in range(CONNECTIONS)]
            eventually(lambda: db.execute("select count(*) from flowgen.run where status = 3").fetchone() == (8,), 30)
            eventually(lambda: "has no connection left for a Transaction" in caplog.text, 30)
            left = client.start(plain)
            for _ in range(5):
                (before,) = db.execute("select lease_until from flowgen.worker").fetchone() or (None,)
                eventually(lambda: db.execute("select lease_until from flowgen.worker").fetchone() != (before,))  # noqa: B023
            assert left.refresh().status == "pending"
            blocking.go.set()
            assert [run.result(30) for run in runs] == list(range(CONNECTIONS))
            assert left.result(30) == 1
    assert caplog.text.count("has no connection left for a Transaction") == 1
    assert "does not answer as it should" not in caplog.text


@pytest.mark.fault("F48")
def test_an_idle_worker_keeps_three_connections(
    url: str, db: Db, app: App, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialler, "KEPT", 0.05)
    blocking = Blocking(app)
    blocking.go.set()
    idle = "select application_name from pg_stat_activity where datname = current_database() and pid <> %s order by 1"
    with flowgen.connect(url) as client:
        workers(app, lease=20)
        for n in range(2):
            assert client.start(blocking.work, n).result(30) == n
            eventually(
                lambda: (
                    [name for (name,) in db.execute(idle, (db.info.backend_pid,)) if name != "flowgen client"]
                    == ["flowgen claim", "flowgen control", "flowgen heartbeat"]
                ),
                30,
            )


@pytest.mark.fault("F48")
def test_a_heartbeat_that_finds_no_connection_takes_one_of_its_worker(
    url: str, db: Db, app: App, server: OwnServer, workers: Workers
) -> None:
    with flowgen.connect(url) as client:
        client.count()
        worker = workers(app, lease=20, heartbeat=0.1)
        eventually(lambda: of_workers(db, "claim"), 30)
        with full(server) as held:
            end_sessions(db, "flowgen heartbeat")
            held.append(psycopg.connect(server.url, autocommit=True))
            eventually(lambda: of_workers(db, "heartbeat") and not of_workers(db, "claim"), 30)
            held.pop().close()
        worker.stop()


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
                eventually(lambda: "has no connection left for a Transaction" in caplog.text, 30)
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
