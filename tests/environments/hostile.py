"""A database whose settings, and whose other objects, are as unlike the defaults as they may be.

    disturb(conn)     for all later connections to the database of `conn`
    MILD              what leaves the statements of tests, which qualify nothing and read text, as they are

What breaks a promise (another isolation, `synchronous_commit` off) is not here: the preflight refuses it.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

__all__ = ["MILD", "SETTINGS", "disturb"]

Db = psycopg.Connection[Any]

SETTINGS = {
    "search_path": "hostile, public, pg_catalog",
    "TimeZone": "Asia/Kathmandu",
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "sql_standard",
    "bytea_output": "escape",
    "extra_float_digits": "-3",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "quote_all_identifiers": "on",
    "backslash_quote": "off",
    "xmlbinary": "hex",
    "row_security": "off",
    "default_transaction_deferrable": "on",
    "check_function_bodies": "off",
    "statement_timeout": "30s",
    "lock_timeout": "30s",
    "idle_session_timeout": "20s",
    "idle_in_transaction_session_timeout": "20s",
    "plan_cache_mode": "force_generic_plan",
    "random_page_cost": "1000",
    "enable_indexscan": "off",
    "enable_nestloop": "off",
    "join_collapse_limit": "1",
    "from_collapse_limit": "1",
    "work_mem": "64kB",
    "default_toast_compression": "pglz",
}

MILD = {"search_path": "hostile, public", "DateStyle": "ISO, DMY", "quote_all_identifiers": "off"}
"""PostgreSQL's own objects come first then, unless others fit better; with `exact` there are none that do."""

WRONG = "'2001-01-01 00:00:00Z'::pg_catalog.timestamptz"
FUNCTIONS = [
    ("now()", "timestamptz", WRONG),
    ("clock_timestamp()", "timestamptz", WRONG),
    ("statement_timestamp()", "timestamptz", WRONG),
    ("transaction_timestamp()", "timestamptz", WRONG),
    ("clock()", "timestamptz", WRONG),
    ("timeline()", "text", "'00000009'::pg_catalog.text"),
    ("width_bucket(uuid, uuid[])", "int4", "0"),
    ("substr(text, int4, int4)", "text", "'x'::pg_catalog.text"),
    ("pg_walfile_name(pg_lsn)", "text", "'000000090000000000000009'::pg_catalog.text"),
    ("pg_notify(text, text)", "void", "NULL::pg_catalog.void"),
    ("set_config(text, text, bool)", "text", "'x'::pg_catalog.text"),
    ("gen_random_uuid()", "uuid", "'00000000-0000-0000-0000-000000000000'::pg_catalog.uuid"),
    ("sha256(bytea)", "bytea", "'x'::pg_catalog.bytea"),
    ("unnest(uuid[])", "SETOF uuid", "NULL::pg_catalog.uuid"),
    ("unnest(text[])", "SETOF text", "NULL::pg_catalog.text"),
    ("unnest(int4[])", "SETOF int4", "NULL::pg_catalog.int4"),
    ("unnest(timestamptz[])", "SETOF timestamptz", "NULL::pg_catalog.timestamptz"),
    ("unnest(interval[])", "SETOF interval", "NULL::pg_catalog.interval"),
    ("array_length(uuid[], int4)", "int4", "0"),
    ("cardinality(uuid[])", "int4", "0"),
    ("jsonb_array_elements(jsonb)", "SETOF jsonb", "'1'::pg_catalog.jsonb"),
    ("json_array_elements(json)", "SETOF json", "'1'::pg_catalog.json"),
    ("length(text)", "int4", "0"),
    ("octet_length(text)", "int4", "0"),
    ("generate_series(int4, int4)", "SETOF int4", "0"),
]
"""Of the names that the engine asks for; each gives something wrong."""

OPERATORS = [
    ("=", "uuid", "uuid"),
    ("=", "text", "text"),
    ("=", "int4", "int4"),
    ("=", "int2", "int4"),
    ("=", "int2", "int2"),
    ("=", "int8", "int8"),
    ("<>", "int4", "int4"),
    ("<", "int2", "int4"),
    ("<", "timestamptz", "timestamptz"),
    (">", "timestamptz", "timestamptz"),
    ("<=", "timestamptz", "timestamptz"),
    ("@>", "text[]", "text[]"),
]
TABLES = ["run", "entry", "worker", "inbox", "waiter", "schedule", "queue", "audit", "migration", "pg_class"]
TYPES = ["uuid", "text", "int4", "timestamptz", "json", "jsonb", "interval", "bool", "run_status"]


def disturb(conn: Db, *, exact: bool = False, **more: str) -> None:
    """Set everything, make everything; `more` settings win. Every name of ours is another thing in two schemas.

    `exact`: nothing that is preferred to what PostgreSQL has for any type of array.
    """
    with conn.transaction():
        conn.execute("CREATE SCHEMA hostile")
        for schema in ("hostile", "public"):
            _shadow(conn, schema, exact)
    database = sql.Identifier(conn.info.dbname)
    for name, value in {**SETTINGS, **more}.items():
        known = conn.execute("SELECT 1 FROM pg_catalog.pg_settings WHERE lower(name) = lower(%s)", (name,)).fetchone()
        if known is None:
            continue  # of a newer server
        shown = sql.SQL(value) if name == "search_path" else sql.Literal(value)
        conn.execute(sql.SQL("ALTER DATABASE {} SET {} = {}").format(database, sql.Identifier(name), shown))


def _shadow(conn: Db, schema: str, exact: bool) -> None:
    conn.execute("SET LOCAL search_path = pg_catalog")
    for signature, gives, value in FUNCTIONS:
        if exact and "[]" in signature:
            continue
        body = f"SELECT {value}"
        conn.execute(f"CREATE FUNCTION {schema}.{signature} RETURNS {gives} LANGUAGE sql AS $f$ {body} $f$")
    for symbol, left, right in OPERATORS:
        if exact and "[]" in left:
            continue
        function = f"{schema}.never_{'_'.join(str(ord(c)) for c in symbol)}"
        conn.execute(
            f"CREATE OR REPLACE FUNCTION {function}({left}, {right}) RETURNS bool LANGUAGE sql AS 'SELECT false'"
        )
        conn.execute(f"CREATE OPERATOR {schema}.{symbol} (LEFTARG = {left}, RIGHTARG = {right}, FUNCTION = {function})")
    for table in TABLES:
        conn.execute(f"CREATE TABLE {schema}.{table} (nothing pg_catalog.int4)")
    for name in TYPES:
        conn.execute(f"CREATE DOMAIN {schema}.{name} AS pg_catalog.varchar")
