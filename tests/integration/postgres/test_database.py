"""Statements reach the server as they are meant, and what comes back is typed, translated and without secrets."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from flowgen.errors import DatabaseError, SchemaError
from flowgen.postgres import arrays, offset_clock
from flowgen.postgres.database import (
    Begin,
    Commit,
    Op,
    Schema,
    Statement,
    connect,
    connect_async,
    redact,
    run_async,
    translate,
)
from tests.integration.postgres.store import Store, functions, migrations

SQL = sorted(resources.files("flowgen.postgres").joinpath("sql").iterdir(), key=lambda file: file.name)


# --- translation


@pytest.mark.parametrize(
    ("sqlstate", "transient"),
    [
        ("08006", True),
        ("40001", True),
        ("40P01", True),
        ("53100", True),
        ("53300", True),
        ("55P03", True),
        ("57014", True),
        ("57P01", True),
        ("57P03", True),
        ("25006", True),
        ("25P03", True),
        ("22P02", False),
        ("22P05", False),
        ("23505", False),
        ("42P01", False),
        ("42501", False),
        ("54000", False),
        ("55000", False),
    ],
)
def test_sqlstates_are_told_apart_once(sqlstate: str, transient: bool) -> None:
    error = translate(psycopg.errors.lookup(sqlstate)("it said so"))
    assert (error.sqlstate, error.transient) == (sqlstate, transient)
    assert "it said so" in str(error)


def test_a_lost_connection_may_be_tried_again_and_a_mistake_may_not() -> None:
    assert translate(psycopg.OperationalError("server closed the connection")).transient
    assert translate(psycopg.InterfaceError("the connection is closed")).transient
    assert not translate(psycopg.ProgrammingError("syntax")).transient


SECRETS = [
    "postgresql://ann:s3cr%et@host/db",
    "postgresql://ann:s3cr:et@host/db?password=s3cr",
    "could not connect with host=x password=s3cr user=ann",
    "password='s3cr et' host=x",
    "postgres://:s3cr@h/",
]


@pytest.mark.parametrize("text", SECRETS)
def test_a_password_is_never_told(text: str) -> None:
    assert "s3cr" not in redact(text)
    assert "s3cr" not in str(translate(psycopg.OperationalError(f"no: {text}")))


@pytest.mark.parametrize(
    "url", ["postgresql://ann:s3cret@127.0.0.1:1/x", "host=127.0.0.1 port=1 password=s3cret", "s3cret@://:"]
)
def test_a_connection_that_fails_names_no_secret_and_no_cause_that_does(url: str) -> None:
    with pytest.raises(DatabaseError) as seen:
        connect(url)
    assert seen.value.__cause__ is None
    assert "s3cret" not in str(seen.value) or "@://" in url
    with pytest.raises(DatabaseError):
        asyncio.run(connect_async(url))


def test_a_refused_connection_is_transient() -> None:
    with pytest.raises(DatabaseError) as seen:
        connect("host=127.0.0.1 port=1")
    assert seen.value.transient


# --- connections


def test_a_connection_notices_a_peer_that_is_gone_unless_the_url_says_how(store: Store) -> None:
    conn = connect(store.url, application_name="me")
    given = conn.info.get_parameters()
    conn.close()
    assert (given["application_name"], given["keepalives_idle"], given["tcp_user_timeout"]) == ("me", "5", "11000")
    conn = connect(make_conninfo(store.url, keepalives_idle=77, application_name="theirs"))
    assert conn.info.get_parameters()["keepalives_idle"] == "77"
    assert conn.info.get_parameters()["application_name"] == "theirs"
    assert conn.autocommit
    conn.close()


def test_behind_a_pooler_nothing_is_prepared(store: Store) -> None:
    conn = connect(store.url, pooler=True)
    store.opened.append(conn)
    for _ in range(10):
        store.run(one(Statement("lineage")), conn)
    assert conn.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)


def one(statement: Statement) -> Op[list[Any]]:
    return (yield statement)


# --- operations


def test_an_operation_sees_an_error_at_its_yield_and_may_answer_it(store: Store) -> None:
    def op() -> Op[str]:
        try:
            yield Statement("owned", {"session": "no uuid"})
        except DatabaseError as error:
            return error.sqlstate or ""
        return "none"

    assert store.run(op()) in ("22P02", "42883", "22P03")


def test_what_an_operation_began_is_rolled_back_when_it_fails(store: Store) -> None:
    def op(end: bool) -> Op[None]:
        yield Begin()
        yield Statement("queue_pause", {"name": "q", "paused": True, "who": None, "reason": None})
        if not end:
            raise RuntimeError("in the middle")
        yield Commit()

    with pytest.raises(RuntimeError):
        store.run(op(end=False))
    assert store.sql("SELECT 1 FROM {schema}.queue") == []
    store.run(op(end=True))
    assert len(store.sql("SELECT 1 FROM {schema}.queue")) == 1

    async def use() -> None:
        conn = await connect_async(store.url)
        with pytest.raises(RuntimeError):
            await run_async(conn, op(end=False), store.schema)
        await run_async(conn, op(end=True), store.schema)
        await conn.close()

    asyncio.run(use())


def test_an_operation_in_the_callers_transaction_leaves_its_end_to_the_caller(store: Store) -> None:
    def op() -> Op[None]:
        yield Begin()
        yield Statement("queue_pause", {"name": "q", "paused": True, "who": None, "reason": None})
        yield Commit()

    conn = store.connect()
    with conn.transaction(force_rollback=True):
        store.run(op(), conn)
    assert store.sql("SELECT 1 FROM {schema}.queue") == []


# --- arrays

AT = datetime(2024, 2, 29, 23, 59, 59, 123456, tzinfo=UTC)
ARRAYS: list[tuple[Callable[[Any], bytes], list[Any], str]] = [
    (arrays.uuids, [UUID(int=1), UUID(int=2**128 - 1)], "uuid[]"),
    (arrays.texts, ["", 'é\n"{},\\', "NULL"], "text[]"),
    (arrays.int4s, [0, -(2**31), 2**31 - 1], "integer[]"),
    (arrays.int8s, [0, -(2**63), 2**63 - 1], "bigint[]"),
    (arrays.float8s, [0.0, -1.5e300], "double precision[]"),
    (arrays.timestamps, [AT, AT.replace(year=4), AT.replace(year=9999, day=28)], "timestamp with time zone[]"),
    (arrays.intervals, [timedelta(days=-3, microseconds=1), timedelta(days=10**6)], "interval[]"),
]


@pytest.mark.parametrize(("make", "items", "kind"), ARRAYS)
def test_an_array_has_one_type_and_every_value(
    store: Store, make: Callable[[Any], bytes], items: list[Any], kind: str
) -> None:
    for values in (items, [None, *items, None], []):
        row = store.conn.execute("SELECT %(x)b, pg_typeof(%(x)b)::text", {"x": make(values)}, binary=True).fetchone()
        assert row is not None
        assert row[1] == kind
        assert list(row[0]) == values
    row = store.conn.execute("SELECT %(x)b", {"x": arrays.bools([True, False])}, binary=True).fetchone()
    assert row == ([True, False],)


@pytest.mark.parametrize("make", [arrays.uuids, arrays.texts, arrays.int4s, arrays.timestamps, arrays.intervals])
def test_a_column_of_nothing_is_filled_up_beside_one_that_holds_something(
    store: Store, make: Callable[[Any], bytes]
) -> None:
    query = "SELECT * FROM unnest(%(full)b, %(nothing)b) AS u(f, n)"
    rows = store.conn.execute(query, {"full": arrays.int4s([1, 2]), "nothing": make([None, None])}, binary=True)
    assert rows.fetchall() == [(1, None), (2, None)]


# --- the files


@pytest.mark.parametrize("file", SQL, ids=lambda file: file.name)
def test_each_file_holds_one_statement_with_its_locks_and_index_on_top(file: Any) -> None:
    text = file.read_text()
    head = "\n".join(line for line in text.splitlines() if line.startswith("--"))
    assert "Locks:" in head
    assert "Index:" in head
    body = "\n".join(line for line in text.splitlines() if not line.startswith("--"))
    assert not body.rstrip().endswith(";")
    outside = re.sub(r"(\$\w*\$).*?\1|'[^']*'", "", body, flags=re.DOTALL)
    assert ";" not in outside
    for percent in re.findall(r"%.", body):
        assert percent in ("%(", "%%"), percent
    assert not re.search(r"(?<![\w.])(now\s*\(|current_timestamp|clock_timestamp)", outside), "time is {schema}.clock()"


def test_every_table_is_named_with_its_schema() -> None:
    tables = ("run", "entry", "worker", "inbox", "waiter", "schedule", "queue", "audit", "migration", "clock_offset")
    tables += ("event", "event_wait", "event_trigger")
    bare = re.compile(rf"(?<!DISTINCT )\b(?:FROM|JOIN|INTO|UPDATE|TABLE|USING)\s+(?:ONLY\s+)?({'|'.join(tables)})\b")
    texts = {file.name: file.read_text() for file in SQL} | functions()
    for name, text in texts.items():
        without = "\n".join(line.split("--")[0] for line in text.splitlines())
        assert not bare.search(without), name


def test_no_statement_looks_into_stored_json() -> None:
    """One escaped NUL makes `->>` of any key fail, and json has no equality."""
    for name, text in ({file.name: file.read_text() for file in SQL} | migrations()).items():
        for match in re.finditer(r"(\w+(?:::\w+)?)\s*->", text):
            # A Start's outcome holds ids and nothing of a user's.
            starts = ("value::json",) if name == "run_retry.sql" else ()
            # Filters look into payloads as jsonb, which `event_body` has made of those that it can hold.
            filters = (
                ("body", "condition", "p_effects", "equality", "filter::jsonb", "jsonb")
                if name == "0009_events.sql"
                else ()
            )
            assert match[1] in ("p_have", "run_id::text", *starts, *filters), f"{name}: {match[0]}"


def test_every_function_names_its_search_path_or_is_fully_qualified() -> None:
    for name, text in functions().items():
        if name not in ("clock", "timeline", "system_identifier", "ended"):  # inlined, or asked too often to set one
            assert "SET search_path = pg_catalog" in text, name


def test_statements_do_not_depend_on_the_settings_of_a_role(store: Store) -> None:
    store.sql("CREATE SCHEMA wrong")
    store.sql("CREATE FUNCTION wrong.now() RETURNS timestamptz LANGUAGE sql AS 'SELECT ''2001-01-01''::timestamptz'")
    store.sql("CREATE FUNCTION wrong.width_bucket(uuid, uuid[]) RETURNS int LANGUAGE sql AS 'SELECT 0'")
    for setting in ("search_path = wrong, pg_catalog", "DateStyle = 'German'", "TimeZone = 'Asia/Kathmandu'"):
        store.sql(f"SET {setting}")
    store.sql("SET IntervalStyle = 'sql_standard'")
    from flowgen.postgres.rows import RunAction
    from tests.integration.postgres.store import change, child_of, ending

    session = store.register()
    parent = store.claimed(session, store.start())
    store.flush(session, children=[child_of(parent)], updates=[change(parent, RunAction.HANG_UP)])
    (child,) = store.claim(session).runs
    result = store.flush(session, updates=[ending(child)])
    assert result.landed
    again = store.claimed(session, parent.run_id)
    assert again.inbox[0].created_at == result.now


def test_a_libpq_that_is_missing_is_answered_with_the_line_to_type() -> None:
    import subprocess
    import sys

    code = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'psycopg': raise ImportError('no pq wrapper available.')\n"
        "sys.meta_path.insert(0, Missing())\n"
        "import flowgen.postgres.database\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'flowgen[binary]'" in done.stderr


def test_the_clock_of_a_test_moves_everything_and_can_be_set_back(store: Store) -> None:
    before = store.one("SELECT {schema}.clock()")
    offset_clock.offset_clock(store.conn, store.schema, 3600.5)
    offset_clock.offset_clock(store.conn, store.schema, 7200.5)
    assert store.one("SELECT {schema}.clock()") - before > timedelta(seconds=7200)
    offset_clock.offset_clock(store.conn, store.schema, 0)
    assert store.one("SELECT {schema}.clock()") - before < timedelta(seconds=60)


def test_a_schema_renders_its_names_once() -> None:
    schema = Schema('a"b%c')
    assert schema.render("{schema}.x {schema_text} {other}") == '"a""b%c".x \'a"b%c\' {other}'
    assert schema.text("lineage") is schema.text("lineage")
    assert b"%%c" in schema.text("lineage")
    long = Schema("y" * 63).channel
    assert len(long.encode()) <= 63
    assert long != Schema("y" * 62).channel
    with pytest.raises(SchemaError):
        Schema("pg_x")
