"""The schema: made by any number of processes at once, whole versions only, under any name, and as it is written down.

`FLOWGEN_UPDATE_GOLDEN=1` writes `schema.golden.sql` anew after a migration was added.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import psycopg
import pytest

from flowgen.errors import DatabaseError, SchemaError
from flowgen.postgres import migrate
from flowgen.postgres.database import Schema, connect
from flowgen.postgres.preflight import preflight
from flowgen.postgres.rows import RunAction
from tests.integration.postgres.store import Store, change, child_of, ending, outcome

GOLDEN = Path(__file__).parent / "schema.golden.sql"
LATEST = len(migrate._migrations())


@pytest.fixture
def conn(flowgen_database: str) -> Iterator[psycopg.Connection[Any]]:
    conn = connect(flowgen_database)
    yield conn
    conn.close()


def test_ten_migrators_at_once_apply_each_version_once(flowgen_database: str) -> None:
    code = "import sys; from flowgen.postgres.migrate import migrate_url; print(migrate_url(sys.argv[1], 'many'))"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, flowgen_database], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.append(migrate.migrate_url(flowgen_database, "many"))) for _ in range(7)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found += [int(process.communicate()[0]) for process in processes]
    assert found == [LATEST] * 10
    conn = connect(flowgen_database)
    rows = conn.execute("SELECT version FROM many.migration ORDER BY 1").fetchall()
    conn.close()
    assert rows == [(version,) for version in range(1, LATEST + 1)]


def test_a_migration_that_dies_leaves_a_whole_version_and_is_taken_up(
    conn: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = Schema("dies")
    good = migrate._migrations()
    bad = attrs.evolve(good[1], text=good[1].text + "\nSELECT 1 / 0;")
    monkeypatch.setattr(migrate, "_migrations", lambda: (good[0], bad, *good[2:]))
    with pytest.raises(DatabaseError):
        migrate.migrate(conn, schema)
    assert migrate.check(conn, schema) == migrate.SchemaState("old", 1, LATEST)
    with pytest.raises(SchemaError, match=rf"version 1, this code needs version {LATEST}.*flowgen migrate"):
        migrate.require(conn, schema)
    monkeypatch.setattr(migrate, "_migrations", lambda: good)
    assert migrate.migrate(conn, schema) == LATEST
    migrate.require(conn, schema)


def test_a_newer_schema_is_refused_with_both_versions(conn: psycopg.Connection[Any]) -> None:
    conn.execute("INSERT INTO flowgen.migration (version, name) VALUES (999, 'of tomorrow')")
    for refuses in (migrate.require, migrate.migrate):
        with pytest.raises(SchemaError, match=rf"version 999, newer than version {LATEST}"):
            refuses(conn, Schema())


def test_a_missing_schema_is_named_with_the_command_that_makes_it(conn: psycopg.Connection[Any]) -> None:
    assert migrate.check(conn, Schema("nowhere")).kind == "missing"
    with pytest.raises(SchemaError, match=r"'nowhere' does not exist.*flowgen migrate"):
        migrate.require(conn, Schema("nowhere"))


NAMES = [
    'We"ird',
    "UPPER",
    "select",
    "with space",
    "quo'te",
    "per%cent %s",
    "{schema}",
    "a;--",
    "$1",
    "e\u0301" * 20,
    "x" * 63,
]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_that_postgresql_takes_works(flowgen_database: str, name: str) -> None:
    assert migrate.migrate_url(flowgen_database, name) == LATEST
    store = Store.open(flowgen_database, Schema(name))
    session = store.register()
    parent = store.claimed(session, store.start())
    store.flush(session, entries=[(parent.run_id, outcome(0))], children=[child_of(parent)])
    (child,) = store.claim(session).runs
    store.flush(session, updates=[ending(child), change(parent, RunAction.HANG_UP)])
    assert store.claimed(session, parent.run_id).mail == 1
    store.close()


@pytest.mark.parametrize("name", ["", "  ", "x" * 64, "é" * 32, "pg_flow", "a\0b", "a\nb", "$function$"])
def test_a_name_that_postgresql_does_not_take_is_refused(name: str) -> None:
    with pytest.raises(SchemaError, match="give another name"):
        Schema(name)


def test_two_schemas_of_one_database_do_not_touch(flowgen_database: str) -> None:
    migrate.migrate_url(flowgen_database, "other")
    one, other = Store.open(flowgen_database), Store.open(flowgen_database, Schema("other"))
    session, theirs = one.register(), other.register()
    run_id = one.start()
    holder = one.connect(autocommit=False)
    from flowgen.postgres import claims

    one.run(claims.claim(session, 1), holder)  # holds the claim lock of its schema
    run_there = other.start()
    assert [item.run_id for item in other.claim(theirs).runs] == [run_there]
    assert other.flush(session, entries=[(run_id, outcome(0))]).fenced
    assert one.schema.channel != other.schema.channel
    one.close()
    other.close()


def test_the_script_makes_the_same_schema(conn: psycopg.Connection[Any]) -> None:
    conn.execute(migrate.script(Schema("by hand")).encode())
    assert migrate.check(conn, Schema("by hand")).kind == "current"
    assert dump(conn, "by hand") == dump(conn, "flowgen")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("default_transaction_isolation = 'serializable'", "not 'read committed'"),
        ("synchronous_commit = 'off'", "lose acknowledged commits"),
        ("synchronous_commit = 'local'", "lose acknowledged commits"),
        ("standard_conforming_strings = 'off'", "standard_conforming_strings"),
    ],
)
def test_a_setting_that_breaks_a_promise_is_named(conn: psycopg.Connection[Any], setting: str, message: str) -> None:
    preflight(conn, Schema())
    if setting.startswith("standard") and conn.info.server_version >= 190000:
        pytest.skip("cannot be turned off any more")
    conn.execute(f"SET {setting}".encode())
    with pytest.raises(SchemaError, match=message):
        preflight(conn, Schema())


def test_every_problem_is_named_at_once(conn: psycopg.Connection[Any]) -> None:
    conn.execute("SET synchronous_commit = 'off'")
    conn.execute("SET default_transaction_isolation = 'repeatable read'")
    with pytest.raises(SchemaError) as seen:
        preflight(conn, Schema())
    assert str(seen.value).count("\n- ") == 2


def test_the_schema_is_the_one_that_is_written_down(conn: psycopg.Connection[Any]) -> None:
    found = dump(conn, "flowgen")
    if os.environ.get("FLOWGEN_UPDATE_GOLDEN"):
        GOLDEN.write_text(found, encoding="utf-8")
    assert found == GOLDEN.read_text(encoding="utf-8")


COLUMNS = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity::text,
    pg_get_expr(d.adbin, d.adrelid)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = %s::regnamespace AND c.relkind = 'r' ORDER BY c.relname, a.attnum
"""
OPTIONS = """
SELECT relname, array_to_string(reloptions, ', ') FROM pg_class
WHERE relnamespace = %s::regnamespace AND relkind = 'r' AND reloptions IS NOT NULL ORDER BY 1
"""
CONSTRAINTS = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = %s::regnamespace AND contype <> 'n' ORDER BY 1, 2
"""
INDEXES = "SELECT indexdef FROM pg_indexes WHERE schemaname = %s ORDER BY indexname"
FUNCTIONS = """
SELECT p.proname, pg_get_function_identity_arguments(p.oid), pg_get_function_result(p.oid), p.provolatile::text,
    array_to_string(p.proconfig, ', ')
FROM pg_proc p WHERE p.pronamespace = %s::regnamespace ORDER BY 1, 2
"""


def dump(conn: psycopg.Connection[Any], schema: str) -> str:
    """What the catalog holds, in words that no server version changes; without the bodies of functions."""
    ((quoted,),) = conn.execute("SELECT quote_ident(%s)", (schema,)).fetchall()
    lines = []
    table = None
    for name, column, kind, required, identity, default in conn.execute(COLUMNS.encode(), (quoted,)):
        if name != table:
            lines.append(f"\nTABLE {name}")
            table = name
        text = f"    {column} {kind}" + " NOT NULL" * required + " IDENTITY" * bool(identity)
        lines.append(text + (f" DEFAULT {default}" if default else ""))
    lines.append("")
    lines += [f"OPTIONS {name}: {options}" for name, options in conn.execute(OPTIONS.encode(), (quoted,))]
    lines += [
        f"CONSTRAINT {name} ON {table.split('.')[-1]}: {text}"
        for table, name, text in conn.execute(CONSTRAINTS.encode(), (quoted,))
    ]
    lines += [text.replace(f"{quoted}.", "") for (text,) in conn.execute(INDEXES.encode(), (schema,))]
    for name, arguments, result, volatile, settings in conn.execute(FUNCTIONS.encode(), (quoted,)):
        lines.append(f"\nFUNCTION {name}({arguments})\n    RETURNS {result}\n    {volatile} {settings or ''}".rstrip())
    return "\n".join(lines).strip() + "\n"
