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
from flowgen.failpoints import ARMED, failpoint
from flowgen.postgres.database import Begin, Commit, Op, Schema, Script, Statement, connect, run
from flowgen.postgres.preflight import preflight

__all__ = ["SchemaState", "check", "migrate", "migrate_url", "require", "script"]

_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


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

    def statement(name: str) -> str:
        return schema.text(name).decode().replace("%%", "%")  # as it is without parameters

    parts = ["BEGIN", *map(statement, ("migrate_lock", "migrate_schema", "migrate_table"))]
    for migration in _migrations():
        parts.append(
            f"-- version {migration.version}: {migration.name}\n" + schema.render(migration.text).strip(";\n ")
        )
        applied = statement("migrate_applied").replace("%(version)b", str(migration.version))
        parts.append(applied.replace("%(name)b", f"'{migration.name}'"))
    return ";\n\n".join([*parts, "COMMIT"]) + ";\n"


def check(conn: psycopg.Connection[Any], schema: Schema) -> SchemaState:
    """Compare the database with this code. Raises DatabaseError."""
    return run(conn, _check(), schema)


def _check() -> Op[SchemaState]:
    expected = len(_migrations())
    found = 0
    if (yield Statement("migrate_exists")):
        found = (yield Statement("migrate_version"))[0][0] or 0
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
    """Bring the schema to this code's version, and return it. Needs an autocommit connection.

    Raises SchemaError for a schema that is newer, DatabaseError when the server refuses.
    """
    return run(conn, _migrate(schema), schema)


def _migrate(schema: Schema) -> Op[int]:
    while True:
        yield Begin()
        yield Statement("migrate_lock")
        yield Statement("migrate_timeout")
        state = yield from _check()
        if state.kind == "newer":
            raise _newer(schema, state)
        if state.kind == "current":
            yield Commit()
            return state.found
        if state.kind == "missing":
            if not (yield Statement("migrate_given")):
                yield Statement("migrate_schema")
            yield Statement("migrate_table")
        migration = _migrations()[state.found]
        yield Script(migration.text)
        if ARMED:
            failpoint("migrate.mid")
        yield Statement("migrate_applied", {"version": migration.version, "name": migration.name})
        yield Commit()


def migrate_url(url: str, schema: str = "flowgen") -> int:
    """`migrate` on a connection of its own, after the preflight."""
    conn = connect(url, application_name="flowgen migrate")
    try:
        kept = Schema(schema)
        preflight(conn, kept)
        return migrate(conn, kept)
    finally:
        conn.close()
