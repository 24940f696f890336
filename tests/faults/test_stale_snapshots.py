"""What holds back the server's own cleaning: claims stay bounded, and the operator is told who it is.

What a claim does is counted in pages that it looks at, which no other work of the machine changes.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import struct
from collections.abc import Iterator
from itertools import count
from typing import Any

import psycopg
import pytest

from flowgen import App
from flowgen.client.sync import Client
from flowgen.postgres import claims, holders
from flowgen.postgres.database import Schema, run
from flowgen.postgres.rows import RunAction, Session
from flowgen.testing.workers import Workers
from flowgen.worker import lookout
from tests.faults.servers import OwnServer, own_server
from tests.integration.postgres.store import Store, change
from tests.waiting import eventually

Db = psycopg.Connection[Any]

MILLION = 1_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    """Slots are of a whole server, and hold back the cleaning of each of its databases. Nobody vacuums this one."""
    folder = tmp_path_factory.mktemp("own") / "server"
    with own_server(folder, autovacuum="off", max_prepared_transactions="2") as made:
        yield made


_names = count(1)


@pytest.fixture
def flowgen_database(server: OwnServer) -> str:
    return server.database(f"stale_{next(_names)}")


def told(caplog: pytest.LogCaptureFixture, what: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if what in record.getMessage()]


@pytest.fixture
def prepared(db: Db) -> Iterator[str]:
    """The gid of a transaction that was prepared and forgotten."""
    gid = f"o'hara {secrets.token_hex(4)}"
    db.execute("CREATE TABLE mine (n int)")
    db.execute("BEGIN")
    db.execute("INSERT INTO mine VALUES (1)")
    db.execute("PREPARE TRANSACTION '{}'".format(gid.replace("'", "''")).encode())
    yield gid
    db.execute("ROLLBACK PREPARED '{}'".format(gid.replace("'", "''")).encode())


@pytest.fixture
def slots(db: Db, flowgen_database: str) -> Iterator[tuple[str, str]]:
    """A slot whose standby went away and left its snapshot, and one that nobody has read for long."""
    names = f"standby_{secrets.token_hex(4)}", f"unread_{secrets.token_hex(4)}"
    for name in names:
        db.execute("SELECT pg_create_physical_replication_slot(%s, immediately_reserve => %s)", (name, "un" in name))
    try:
        leave_a_snapshot(flowgen_database, db, names[0])
        yield names
    finally:
        for name in names:
            db.execute("SELECT pg_drop_replication_slot(%s)", (name,))


def leave_a_snapshot(url: str, db: Db, slot: str) -> None:
    """Say what a standby with hot_standby_feedback says, and go away."""
    with contextlib.closing(psycopg.connect(url, autocommit=True, replication="true")) as standby:
        at, xid = db.execute("SELECT pg_current_wal_flush_lsn(), pg_current_xact_id()::text").fetchone() or ("", "")
        standby.pgconn.send_query(f"START_REPLICATION SLOT {slot} PHYSICAL {at}".encode())
        standby.pgconn.get_result()
        standby.pgconn.put_copy_data(b"h" + struct.pack(">qIIII", 0, int(xid) & 0xFFFFFFFF, 0, 0, 0))
        standby.pgconn.flush()
        held = "SELECT xmin FROM pg_replication_slots WHERE slot_name = %s AND xmin IS NOT NULL"
        eventually(lambda: db.execute(held, (slot,)).fetchone())
    left = "SELECT slot_name FROM pg_replication_slots WHERE slot_name = %s AND NOT active"
    eventually(lambda: db.execute(left, (slot,)).fetchone())


@pytest.mark.fault("F42", "F43")
def test_a_worker_names_once_who_holds_an_old_snapshot_and_what_to_do(
    flowgen_database: str,
    flowgen_worker: Workers,
    db: Db,
    prepared: str,
    slots: tuple[str, str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lookout, "EVERY", 0.1)
    monkeypatch.setattr(lookout, "LIMIT", 0.3)
    caplog.set_level(logging.WARNING, "flowgen.worker")
    with psycopg.connect(flowgen_database, application_name="report") as reads:
        reads.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        reads.execute("SELECT count(*) FROM flowgen.run")
        with psycopg.connect(flowgen_database, application_name="import") as writes:
            writes.execute("CREATE TABLE theirs (n int)")
            flowgen_worker(App())
            user = reads.info.user
            of = {
                f"pid {reads.info.backend_pid} (application 'report', user '{user}', idle in transaction)": "roll back",
                f"pid {writes.info.backend_pid} (application 'import', user": "pg_terminate_backend",
                f'prepared transaction "{prepared}" (owner': "ROLLBACK PREPARED 'o''hara",
                f"slot '{slots[0]}' (inactive) has held": f"pg_drop_replication_slot('{slots[0]}')",
                f"slot '{slots[1]}' (inactive) has not moved": "keeps the WAL since",
            }
            for who, remedy in of.items():
                (message,) = eventually(lambda who=who: told(caplog, who))
                assert remedy in message
                assert " seconds" in message
        with psycopg.connect(flowgen_database, application_name="later") as later:
            later.execute("CREATE TABLE others (n int)")
            eventually(lambda: told(caplog, "application 'later'"))
    for who in of:
        assert len(told(caplog, who)) == 1
    assert not told(caplog, "application 'flowgen")


@pytest.mark.fault("F42")
def test_a_role_without_rights_is_told_what_it_may_see(flowgen_database: str, db: Db) -> None:
    role = f"flowgen_test_{secrets.token_hex(6)}"
    db.execute(f"CREATE ROLE {role}".encode())
    try:
        with psycopg.connect(flowgen_database, application_name="report") as reads:
            reads.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            reads.execute("SELECT 1")
            db.execute(f"SET ROLE {role}".encode())
            found = {holder.name: holder for holder in run(db, holders.oldest(), Schema())}
            holder = found[str(reads.info.backend_pid)]
            assert (holder.what, holder.application, holder.state, holder.lasts) == ("session", "report", None, None)
    finally:
        db.execute("RESET ROLE")
        db.execute(f"DROP ROLE {role}".encode())


@pytest.mark.fault("F42")
def test_a_long_transaction_that_takes_new_snapshots_is_no_holder(
    flowgen_database: str, db: Db, caplog: pytest.LogCaptureFixture
) -> None:
    looks = lookout.Lookout(None, limit=-1)  # type: ignore[arg-type]
    with psycopg.connect(flowgen_database, application_name="dashboard") as reads:
        for now in range(3):
            with reads.cursor("rows") as rows:
                rows.execute("SELECT 1")
                assert [each for each in look(db) if each.application == "dashboard"]
                looks.heed(look(db), now)
            db.execute("SELECT pg_current_xact_id()")
        assert not told(caplog, "dashboard")
        with reads.cursor("rows") as rows:
            rows.execute("SELECT 1")
            for now in range(2):
                looks.heed(look(db), now)
    assert told(caplog, "application 'dashboard'")


def look(db: Db) -> Any:
    return run(db, holders.oldest(), Schema())


@pytest.fixture
def store(flowgen_database: str) -> Iterator[Store]:
    store = Store.open(flowgen_database)
    yield store
    store.close()


def ready(store: Store, many: int) -> None:
    store.sql(
        "INSERT INTO {schema}.run (run_id, created_at, name, kind, queue, input, status, due_at)"
        " SELECT gen_random_uuid(), c, 'job', 'task', 'default', '{}', 0, c"
        " FROM {schema}.clock() c, generate_series(1, %s::int)",
        many,
    )


def done(store: Store, session: Session, many: int) -> None:
    """So many runs become ready and come to their end, as a busy worker would do it."""
    since = None
    for _ in range(many // 1000):
        ready(store, 1000)
        left = 1000
        while left:
            claimed = store.claim(session, 500, since=since)
            store.flush(session, updates=[change(item, RunAction.COMPLETE, output="1") for item in claimed.runs])
            since, left = claimed.since, left - len(claimed.runs)
    assert store.one("SELECT count(*) FROM {schema}.run WHERE status <> 7") == 0


def pages(store: Store, *, whole: bool) -> int:
    """What a claim of ten runs looks at: in the whole queue, or since the last one as a worker's does."""
    session = store.register("job")
    since = None if whole else store.one("SELECT {schema}.clock()")
    ready(store, 10)
    text = b"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + store.schema.text("claim")
    params = claims._params(session, 10, None, "{}") | {"since": since}
    ((((explained),),),) = store.conn.execute(text, params).fetchall()
    plan = explained["Plan"]
    assert plan["Actual Rows"] == 1 + 10
    store.sql("DELETE FROM {schema}.run WHERE status = 3")
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def settled(store: Store, *, whole: bool) -> int:
    """The first in a session reads what it then has in memory, and marks what is dead."""
    return min(pages(store, whole=whole) for _ in range(3))


@pytest.mark.fault("F44")
def test_a_claim_does_not_read_what_nobody_vacuums(store: Store) -> None:
    session = store.register("job")
    done(store, session, 1000)
    before = {whole: settled(store, whole=whole) for whole in (True, False)}
    done(store, session, 20_000)
    after = {whole: settled(store, whole=whole) for whole in (True, False)}
    assert all(after[whole] < 2 * before[whole] for whole in before), (before, after)


@pytest.mark.fault("F42")
def test_a_busy_workers_claim_does_not_read_what_an_old_snapshot_keeps(store: Store) -> None:
    session = store.register("job")
    done(store, session, 1000)
    old = store.connect(autocommit=False)
    store.sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", conn=old)
    store.sql("SELECT count(*) FROM {schema}.run", conn=old)
    before = {whole: settled(store, whole=whole) for whole in (True, False)}
    done(store, session, 10_000)
    after = {whole: settled(store, whole=whole) for whole in (True, False)}
    assert after[False] < 2 * before[False], (before, after)
    assert after[True] > 2 * before[True], "the measure sees it: a look at the whole queue reads it all"
    old.rollback()
    settled(store, whole=True)
    assert settled(store, whole=True) < 2 * before[True], "it is over with the snapshot, without any vacuum"


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.fault("F44")
def test_a_claim_does_not_read_what_a_million_runs_left(
    store: Store, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    app = App()

    @app.task
    def job() -> None: ...

    def work(many: int) -> None:
        for _ in range(many // 10_000):
            flowgen_client.start_many([job.call() for _ in range(10_000)])
            assert flowgen_worker(app, drain=True).join(600)

    work(10_000)
    before = {whole: settled(store, whole=whole) for whole in (True, False)}
    work(MILLION)
    after = {whole: settled(store, whole=whole) for whole in (True, False)}
    assert all(after[whole] < 3 * before[whole] for whole in before), (before, after)
