"""What holds back the server's own cleaning: claims stay bounded, and the operator is told who it is."""

from __future__ import annotations

import contextlib
import logging
import secrets
import struct
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from flowgen import App
from flowgen.postgres import holders
from flowgen.postgres.database import Schema, run
from flowgen.testing.workers import Workers
from flowgen.worker import lookout
from tests.waiting import eventually

Db = psycopg.Connection[Any]


def told(caplog: pytest.LogCaptureFixture, what: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if what in record.getMessage()]


@pytest.fixture
def prepared(db: Db) -> Iterator[str]:
    """The gid of a transaction that was prepared and forgotten."""
    if db.execute("SHOW max_prepared_transactions").fetchone() == ("0",):
        pytest.skip("the server does not take prepared transactions: max_prepared_transactions is 0")
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
    if db.execute("SHOW max_wal_senders").fetchone() == ("0",):
        pytest.skip("the server has no replication: max_wal_senders is 0")
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
    try:
        standby = psycopg.connect(url, autocommit=True, replication="true")
    except psycopg.OperationalError as error:
        pytest.skip(f"the server takes no replication from here: {error}")
    with contextlib.closing(standby):
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
