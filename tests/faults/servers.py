"""Servers that a test may kill, stop and set up as it likes."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from flowgen.postgres import embedded
from flowgen.postgres.migrate import migrate_url
from tests.waiting import eventually

Db = psycopg.Connection[Any]


class OwnServer:
    """A server of one test or module; it has `postgres` and the databases that were made in it."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self._settings = settings
        self.url = self.start()

    @property
    def pid(self) -> int:
        pid = embedded.status(self.folder).pid
        assert pid is not None
        return pid

    def start(self) -> str:
        """Start it unless it runs; crash recovery included."""
        return embedded.ensure(self.folder, settings=self._settings, idle=0)

    def stop(self, mode: Any = "fast") -> None:
        embedded.stop(self.folder, mode)

    def kill(self) -> None:
        """kill -9 of the postmaster, and wait until nothing of it is left."""
        os.kill(self.pid, signal.SIGKILL)
        eventually(lambda: not embedded.status(self.folder).running)

    def database(self, name: str) -> str:
        """A new database with the schema; its URL."""
        with self.connected(self.url) as conn:
            conn.execute(f"create database {name}")
        url = re.sub(r"(//[^/]*/)postgres", rf"\1{name}", self.url, count=1)
        migrate_url(url, "flowgen")
        return url

    @contextmanager
    def connected(self, url: str) -> Iterator[Db]:
        with psycopg.connect(url, autocommit=True) as conn:
            yield conn

    def rules(self, first: str) -> Callable[[], None]:
        """Put a line before the others of pg_hba.conf, until what it gives is called."""
        data = embedded.status(self.folder).data
        assert data is not None
        file = data / "pg_hba.conf"
        before = file.read_text()

        def write(text: str) -> None:
            file.write_text(text)
            with self.connected(self.url) as conn:
                conn.execute("select pg_reload_conf()")

        write(f"{first}\n{before}")
        return lambda: write(before)

    def log(self) -> str:
        return embedded.server_log(self.folder, limit=1_000_000)

    def end(self) -> None:
        embedded.stop(self.folder, "immediate")
        embedded.reset(self.folder)


@contextmanager
def own_server(folder: Path, **settings: str) -> Iterator[OwnServer]:
    server = OwnServer(folder, **settings)
    try:
        yield server
    finally:
        server.end()


def check_storage(db: Db) -> None:
    """Every table can be read, every index says what its table says, and every reference holds.

    By the extension amcheck where the server has it, which the embedded one does not.
    """
    available = db.execute("select 1 from pg_available_extensions where name = 'amcheck'").fetchone()
    if available:
        db.execute("create extension if not exists amcheck")
    for table, index in db.execute(
        "select i.indrelid::regclass::text, i.indexrelid::regclass::text from pg_index i "
        "join pg_class c on c.oid = i.indrelid where c.relnamespace = 'flowgen'::regnamespace"
    ).fetchall():
        row = db.execute("select indisvalid and indisready from pg_index where indexrelid = %s::regclass", (index,))
        assert row.fetchone() == (True,), index
        if available:
            db.execute("select bt_index_parent_check(%s::regclass, true)", (index,))
        assert _read(db, table, index, by_index=True) == _read(db, table, index, by_index=False), index
    for name, table in db.execute(
        "select conname, conrelid::regclass::text from pg_constraint "
        "where contype in ('f', 'c') and connamespace = 'flowgen'::regnamespace"
    ).fetchall():
        with db.transaction(force_rollback=True):
            db.execute(f"update pg_constraint set convalidated = false where conname = '{name}'")
            db.execute(f'alter table {table} validate constraint "{name}"')


def _read(db: Db, table: str, index: str, *, by_index: bool) -> object:
    """What the rows of an index are, as the table or the index has them."""
    found = db.execute(
        "select (select string_agg(pg_get_indexdef(i.indexrelid, k, true), ', ' order by k) "
        "from generate_series(1, i.indnkeyatts) k), coalesce(pg_get_expr(i.indpred, i.indrelid), 'true') "
        "from pg_index i where i.indexrelid = %s::regclass",
        (index,),
    ).fetchone()
    assert found is not None
    columns, predicate = found
    with db.transaction(force_rollback=True):
        for what in ("seqscan", "bitmapscan", "sort") if by_index else ("indexscan", "indexonlyscan", "bitmapscan"):
            db.execute(f"set local enable_{what} = off")
        return db.execute(
            f"select array_agg(x::text) from (select {columns} from {table} where {predicate} "
            f"order by {columns}, ctid) x"
        ).fetchone()
