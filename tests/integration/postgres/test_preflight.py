"""What a database must be: each thing that is not is named, with what to do, before anything else happens."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

import flowgen
from flowgen import DatabaseError, SchemaError, Settings
from flowgen.client.aio import connect_async
from flowgen.client.sync import connect
from flowgen.postgres.migrate import migrate_url
from flowgen.postgres.preflight import _broken

Db = psycopg.Connection[Any]
HEAD = "This database cannot be used:\n- "


@pytest.fixture
def db(flowgen_database: str) -> Iterator[Db]:
    with psycopg.connect(flowgen_database, autocommit=True) as conn:
        yield conn


def alter(db: Db, setting: str, value: str) -> None:
    name = sql.Identifier(db.info.dbname)
    db.execute(sql.SQL("ALTER DATABASE {} SET {} = {}").format(name, sql.Identifier(setting), sql.Literal(value)))


def refusals(url: str, **settings: Any) -> Iterator[str]:
    """What a client of each colour, a worker and a migration say."""

    async def opened() -> None:
        await connect_async(url, settings=Settings(**settings))

    for attempt in (
        lambda: connect(url, settings=Settings(**settings)),
        lambda: asyncio.run(opened()),
        lambda: flowgen.worker(url, settings=Settings(**settings)).start(),
        lambda: migrate_url(url, settings.get("schema", "flowgen")),
    ):
        with pytest.raises(SchemaError) as refused:
            attempt()
        yield str(refused.value)


@pytest.mark.bad_input("B70")
@pytest.mark.fault("F59")
@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        (
            "default_transaction_isolation",
            level,
            f"default_transaction_isolation is '{level}', not 'read committed': "
            "ALTER ROLE or ALTER DATABASE ... SET default_transaction_isolation",
        )
        for level in ("repeatable read", "serializable", "read uncommitted")
    ]
    + [
        (
            "synchronous_commit",
            value,
            f"synchronous_commit is '{value}': a crash or failover would lose acknowledged commits; set it 'on'",
        )
        for value in ("off", "local")
    ]
    + [("standard_conforming_strings", "off", "standard_conforming_strings is off: set it to 'on'")],
)
def test_a_setting_that_breaks_a_promise_is_refused_by_name(
    flowgen_database: str, db: Db, setting: str, value: str, said: str
) -> None:
    try:
        alter(db, setting, value)
    except psycopg.Error as error:
        pytest.skip(f"this server does not have it: {error}")
    assert set(refusals(flowgen_database)) == {HEAD + said}


@pytest.mark.bad_input("B70")
def test_several_problems_are_told_at_once(flowgen_database: str, db: Db) -> None:
    alter(db, "synchronous_commit", "off")
    alter(db, "default_transaction_isolation", "serializable")
    for said in refusals(flowgen_database):
        assert [line.split()[1] for line in said.splitlines()[1:]] == [
            "default_transaction_isolation",
            "synchronous_commit",
        ]


@pytest.mark.bad_input("B70")
@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_a_database_that_is_not_utf8_is_refused(flowgen_server_url: str, encoding: str) -> None:
    name = f"flowgen_test_{secrets.token_hex(6)}"
    with psycopg.connect(flowgen_server_url, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name} ENCODING {encoding} LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0")
        try:
            url = make_conninfo(flowgen_server_url, dbname=name)
            said = f"the database's encoding is {encoding}, not UTF8: create it with ENCODING 'UTF8'"
            assert set(refusals(url)) == {HEAD + said}
        finally:
            conn.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.bad_input("B70")
def test_a_server_that_is_too_old_is_refused() -> None:
    told = _broken((130011, "UTF8", "read committed", "on", "on"))
    assert told == ["server version 13 is older than 14: use PostgreSQL 14 or newer"]


@pytest.fixture
def poor(flowgen_database: str, db: Db) -> Iterator[str]:
    """The URL of the database for a role that may nothing but connect."""
    role = f"flowgen_test_{secrets.token_hex(6)}"
    db.execute(f"CREATE ROLE {role} LOGIN")
    try:
        yield make_conninfo(flowgen_database, user=role)
    finally:
        db.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.bad_input("B70")
def test_a_role_that_may_not_create_the_schema_is_told_which_right_is_missing(poor: str) -> None:
    given = conninfo_to_dict(poor)
    said = (
        f"the schema 'mine' does not exist, and the role '{given['user']}' may not create it: "
        f"GRANT CREATE ON DATABASE {given['dbname']}, or let a role that may run: flowgen migrate"
    )
    assert set(refusals(poor, schema="mine")) == {HEAD + said}


@pytest.mark.bad_input("B70")
def test_a_role_that_may_not_create_schemas_can_be_given_one(poor: str, db: Db) -> None:
    role = conninfo_to_dict(poor)["user"]
    db.execute(f"CREATE SCHEMA mine AUTHORIZATION {role}")
    with connect(poor, settings=Settings(schema="mine")) as client:
        assert client.count() == 0


@pytest.mark.bad_input("B70")
def test_a_role_that_may_not_use_the_schema_is_told_which_right_is_missing(poor: str, db: Db) -> None:
    role = conninfo_to_dict(poor)["user"]
    said = f"the role '{role}' may not use the schema 'flowgen': GRANT USAGE ON SCHEMA, and on what is in it"
    assert set(refusals(poor)) == {HEAD + said}
    db.execute(f"GRANT USAGE ON SCHEMA flowgen TO {role}")
    with pytest.raises(DatabaseError) as refused:
        connect(poor)
    assert not refused.value.transient
    assert str(refused.value).startswith("The role of the URL lacks a right: permission denied for table migration")


@pytest.mark.bad_input("B70")
@pytest.mark.fault("F35")
def test_a_database_that_takes_no_writes_is_read_and_says_so_where_something_is_written(
    flowgen_database: str, db: Db
) -> None:
    alter(db, "default_transaction_read_only", "on")
    with connect(flowgen_database) as client:
        assert client.count() == 0
        with pytest.raises(DatabaseError) as refused:
            client.start(flowgen.call("anything"))
        told = [refused.value]
    with pytest.raises(DatabaseError) as refused:
        connect(flowgen_database, settings=Settings(schema="mine"))
    for error in (*told, refused.value):
        assert str(error).startswith("This server takes no writes (a standby, or read only): ")
        assert error.transient
