"""The schema and its versions: forward-only scripts in `migrations/`, each applied once, in one transaction.

    migrate(conn, schema) -> int                    applies what is missing; the version that the schema has then
    migrate_url(url, schema="flowgen") -> int       the same, with a connection of its own and the preflight
    check(conn, schema) -> SchemaState              missing, old, current or newer, and both versions
    require(conn, schema) -> None                   SchemaError unless current
    script(schema) -> str                           all of it as SQL, for `flowgen migrate --sql`

It never goes back and never guesses: a schema that is newer than this code is refused. Any number of processes may
migrate at once, and one that is killed leaves a whole version behind: an advisory lock and the row in `migration` are
held and written by the transaction that changes the tables.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources
from typing import Any, Literal

import attrs
import psycopg

from flowgen.errors import SchemaError
from flowgen.postgres.database import Schema, connect, preflight, translate

__all__ = ["SchemaState", "check", "migrate", "migrate_url", "require", "script"]

_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('flowgen migrate ' || {schema_text}, 0))"
_PREPARE = """
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE IF NOT EXISTS {schema}.migration (
    version integer NOT NULL,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT pg_catalog.statement_timestamp(),
    CONSTRAINT migration_pkey PRIMARY KEY (version)
);
"""
_VERSION = "SELECT max(version) FROM {schema}.migration"
_EXISTS = """
SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = {schema_text} AND c.relname = 'migration'
"""
_APPLIED = "INSERT INTO {schema}.migration (version, name) VALUES (%s, %s)"
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '10s'"


@attrs.frozen
class SchemaState:
    """What is there: `found` is the version of the database (0: none), `expected` that of this code."""

    kind: Literal["missing", "old", "current", "newer"]
    found: int
    expected: int


@attrs.frozen
class _Migration:
    version: int
    name: str
    text: str


@cache
def _migrations() -> tuple[_Migration, ...]:
    found = []
    for file in resources.files(__package__).joinpath("migrations").iterdir():
        if match := _NAME.fullmatch(file.name):
            found.append(_Migration(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    found.sort(key=lambda migration: migration.version)
    assert [migration.version for migration in found] == list(range(1, len(found) + 1)), "migrations have gaps"
    return tuple(found)


def script(schema: Schema) -> str:
    """Every migration as one SQL script, for whoever applies it by hand."""
    parts = ["BEGIN;", schema.render(_LOCK) + ";", schema.render(_PREPARE).strip()]
    for migration in _migrations():
        parts.append(f"-- version {migration.version}: {migration.name}")
        parts.append(schema.render(migration.text).strip())
        parts.append(schema.render(_APPLIED).replace("%s, %s", f"{migration.version}, '{migration.name}'") + ";")
    return "\n\n".join([*parts, "COMMIT;"]) + "\n"


def check(conn: psycopg.Connection[Any], schema: Schema) -> SchemaState:
    """Compare the database with this code. Raises DatabaseError."""
    try:
        return _check(conn, schema)
    except psycopg.Error as error:
        raise translate(error) from error


def _check(conn: psycopg.Connection[Any], schema: Schema) -> SchemaState:
    expected = len(_migrations())
    found = 0
    if conn.execute(schema.render(_EXISTS).encode()).fetchone() is not None:
        row = conn.execute(schema.render(_VERSION).encode()).fetchone()
        found = (row[0] if row else None) or 0
    if found == expected:
        return SchemaState("current", found, expected)
    if found == 0:
        return SchemaState("missing", found, expected)
    return SchemaState("old" if found < expected else "newer", found, expected)


def require(conn: psycopg.Connection[Any], schema: Schema) -> None:
    """Raise SchemaError, naming both versions and what to do, unless the schema is the one of this code."""
    state = check(conn, schema)
    if state.kind == "missing":
        raise SchemaError(
            f"The schema {schema.name!r} does not exist here; this code needs version {state.expected}. "
            "Create it with: flowgen migrate"
        )
    if state.kind == "old":
        raise SchemaError(
            f"The schema {schema.name!r} is version {state.found}, this code needs version {state.expected}. "
            "Upgrade it with: flowgen migrate"
        )
    if state.kind == "newer":
        raise _newer(schema, state)


def _newer(schema: Schema, state: SchemaState) -> SchemaError:
    return SchemaError(
        f"The schema {schema.name!r} is version {state.found}, newer than version {state.expected} of this code. "
        "Upgrade flowgen here (flowgen migrate goes forward only)"
    )


def migrate(conn: psycopg.Connection[Any], schema: Schema) -> int:
    """Bring the schema to this code's version, and return it. Needs a connection without an open transaction.

    Raises SchemaError for a schema that is newer, DatabaseError when the server refuses.
    """
    try:
        while True:
            with conn.transaction():
                conn.execute(schema.render(_LOCK).encode())  # waits for another migrator as long as it takes
                conn.execute(_LOCK_TIMEOUT)
                state = _check(conn, schema)
                if state.kind == "newer":
                    raise _newer(schema, state)
                if state.kind == "current":
                    return state.found
                if state.kind == "missing":
                    conn.execute(schema.render(_PREPARE).encode())
                migration = _migrations()[state.found]
                conn.execute(schema.render(migration.text).encode())
                applied = schema.render(_APPLIED, beside_parameters=True)
                conn.execute(applied.encode(), (migration.version, migration.name))
    except psycopg.Error as error:
        raise translate(error) from error


def migrate_url(url: str, schema: str = "flowgen") -> int:
    """`migrate` on a connection of its own, after the preflight."""
    conn = connect(url, application_name="flowgen migrate")
    try:
        preflight(conn)
        return migrate(conn, Schema(schema))
    finally:
        conn.close()
