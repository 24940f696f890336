"""What connecting guarantees about the schema and about secrets."""

from __future__ import annotations

import asyncio
from importlib import resources
from typing import Any

import psycopg
import pytest

from flowgen import DatabaseError, SchemaError
from flowgen.client.aio import connect_async
from flowgen.client.sync import connect
from flowgen.core.settings import Settings
from flowgen.postgres.database import Schema

Db = psycopg.Connection[Any]


def test_a_missing_schema_is_created(flowgen_database: str, db: Db) -> None:
    with connect(flowgen_database, settings=Settings(schema="fresh")) as client:
        assert client.count() == 0
    assert db.execute("SELECT count(*) > 0 FROM fresh.migration").fetchone() == (True,)


def test_an_old_schema_is_refused_until_migrate_is_asked_for(flowgen_database: str, db: Db) -> None:
    first = resources.files("flowgen.postgres").joinpath("migrations", "0001_tables.sql").read_text()
    db.execute("CREATE SCHEMA older")
    db.execute("CREATE TABLE older.migration (LIKE flowgen.migration INCLUDING ALL)")
    db.execute("INSERT INTO older.migration (version, name) VALUES (1, 'tables')")
    db.execute(Schema("older").render(first).encode())
    settings = Settings(schema="older")
    with pytest.raises(SchemaError, match=r"version 1.*\n?.*flowgen migrate"):
        connect(flowgen_database, settings=settings)
    with connect(flowgen_database, settings=settings, migrate=True) as client:
        assert client.count() == 0
    with connect(flowgen_database, settings=settings) as client:
        assert client.count() == 0


def test_a_newer_schema_is_refused(flowgen_database: str, db: Db) -> None:
    db.execute("INSERT INTO flowgen.migration (version, name) SELECT max(version) + 1, 'future' FROM flowgen.migration")
    with pytest.raises(SchemaError, match="newer"):
        connect(flowgen_database)
    with pytest.raises(SchemaError, match="newer"):
        connect(flowgen_database, migrate=True)


def test_the_async_client_is_awaited_or_entered(flowgen_database: str) -> None:
    async def go() -> None:
        async with connect_async(flowgen_database) as client:
            assert await client.count() == 0
        made = await connect_async(flowgen_database)
        async with made:
            assert await made.count() == 0

    asyncio.run(go())


def test_no_password_is_told_when_the_server_cannot_be_reached() -> None:
    with pytest.raises(DatabaseError) as raised:
        connect("postgresql://me:hunter2@127.0.0.1:1/x")
    assert "hunter2" not in str(raised.value) + repr(raised.value.__cause__) + repr(raised.value.__context__)


def test_a_client_that_is_closed_twice_is_closed(flowgen_database: str) -> None:
    client = connect(flowgen_database)
    client.close()
    client.close()
    with pytest.raises(DatabaseError):
        client.count()


def test_behind_a_pooler_nothing_is_prepared(flowgen_database: str) -> None:
    with connect(flowgen_database, settings=Settings(pooler=True)) as client:
        for _ in range(10):
            assert client.count() == 0
        with client._pool.connection() as conn:
            assert conn.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


def test_one_lost_connection_is_not_noticed(flowgen_database: str, db: Db) -> None:
    with connect(flowgen_database) as client:
        assert client.count() == 0
        db.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = 'flowgen client'"
        )
        assert client.count() == 0
