"""What `SELECT flowgen.start(...)` guarantees to users of SQL."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

import flowgen
from flowgen.client.sync import Client
from flowgen.core.ids import uuid_of_id
from flowgen.core.states import RunKind, RunStatus
from tests.integration.client.test_start import HOSTILE

Db = psycopg.Connection[Any]
Checkout = flowgen.Workflow[..., Any, str]


@pytest.mark.parametrize("id", [*HOSTILE, "order-o-1", " ", "é", "\u2400", "x\u0085y"])
def test_the_uuid_of_an_id_is_the_same_in_sql_and_python(db: Db, id: str) -> None:
    row = db.execute("SELECT flowgen.run_id_for(%s)", (id,)).fetchone()
    assert row == (uuid_of_id("flowgen", id),)


def test_fresh_uuids_are_of_version_7_and_sort_by_time(db: Db) -> None:
    made: list[UUID] = [
        db.execute("SELECT flowgen.new_run_id()").fetchone()[0]  # type: ignore[index]
        for _ in range(20)
    ]
    assert {each.version for each in made} == {7}
    assert {each.variant for each in made} == {"specified in RFC 4122"}
    assert len(set(made)) == 20
    stamps = [each.int >> 80 for each in made]
    assert stamps == sorted(stamps)


def test_a_start_from_sql_is_a_run_like_any_other(client: Client, db: Db, checkout: Checkout) -> None:
    row = db.execute("""SELECT flowgen.start('checkout', '{"order_id": "o-1"}')""").fetchone()
    assert row is not None
    run = client.get(row[0], checkout)
    assert (run.name, run.kind, run.status, run.queue) == ("checkout", RunKind.WORKFLOW, RunStatus.PENDING, "default")
    assert run.input == {"order_id": "o-1"}
    assert run.row.trigger == '{"kind":"sql"}'


def test_all_options_can_be_given_by_name(client: Client, db: Db) -> None:
    db.execute(
        "SELECT flowgen.start('job', '{}', id => 'x', queue => 'slow', priority => 3, delay => '1 hour', "
        "deadline => '2 hours', tags => '{a,b}', correlation_id => 'c', kind => 'task')"
    )
    run = client.get("x")
    assert (run.queue, run.priority, run.tags, run.correlation_id, run.kind) == ("slow", 3, ("a", "b"), "c", "task")
    assert run.due_at == run.created_at + timedelta(hours=1)
    assert run.deadline == run.created_at + timedelta(hours=2)


def test_the_id_attaches_to_an_equal_start_from_either_side(client: Client, db: Db, checkout: Checkout) -> None:
    start = """SELECT flowgen.start('checkout', '{"cents": 5, "order_id": "o"}', 'x')"""
    assert db.execute(start).fetchone() == ("x",)
    assert db.execute(start).fetchone() == ("x",)
    assert client.start(checkout.call("o", 5).opts(id="x")).attached
    client.start(checkout.call("o", 5).opts(id="y"))
    assert db.execute(start.replace("'x'", "'y'")).fetchone() == ("y",)
    assert client.count() == 2


def test_another_start_under_an_id_is_an_error_that_names_both(db: Db) -> None:
    db.execute("""SELECT flowgen.start('checkout', '{"a": 1}', 'x')""")
    with pytest.raises(psycopg.errors.UniqueViolation, match=r"'x' exists: it is checkout .* not refund"):
        db.execute("""SELECT flowgen.start('refund', '{"a": 1}', 'x')""")
    with pytest.raises(psycopg.errors.UniqueViolation, match="exists"):
        db.execute("""SELECT flowgen.start('checkout', '{"a": 2}', 'x')""")
    with pytest.raises(psycopg.errors.UniqueViolation, match="exists"):
        db.execute("""SELECT flowgen.start('checkout', '{"a": "\\u0000"}', 'x')""")


@pytest.mark.parametrize(
    "call",
    [
        "NULL", "''", "' '", "'a/b'", "'a#b'", "E'a\\nb'", "repeat('x', 201)", "'a', '[]'", "'a', '1'", "'a', NULL",
        "'a', '{}', ''", "'a', '{}', E'\\t'", "'a', '{}', repeat('x', 513)", "'a', queue => ''",
        "'a', priority => 40000",
        "'a', kind => 'saga'", "'a', delay => '-1 s'", "'a', delay => '1 s', at => now()",
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(db: Db, call: str) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="flowgen"):
        db.execute(f"SELECT flowgen.start({call})".encode())


def test_the_codecs_escape_character_survives(client: Client, db: Db) -> None:
    db.execute("SELECT flowgen.start('any', json_build_object('v', %s::text), 'x')", ("a\u2400b\u24000",))
    assert client.get("x").input == {"v": "a\u2400b\u24000"}


def test_it_takes_part_in_the_callers_transaction(client: Client, flowgen_database: str) -> None:
    with psycopg.connect(flowgen_database) as conn:
        conn.execute("SELECT flowgen.start('any', '{}', 'x')")
        conn.rollback()
    assert client.count() == 0


def test_a_hostile_search_path_changes_nothing(client: Client, db: Db) -> None:
    db.execute("CREATE SCHEMA evil")
    db.execute("CREATE FUNCTION evil.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT '\\x00'::bytea $$")
    db.execute("CREATE FUNCTION evil.coalesce_evil() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$")
    db.execute("SET search_path = evil, pg_catalog")
    db.execute("SELECT flowgen.start('any', '{}', 'x')")
    assert client.get("x").uuid == uuid_of_id("flowgen", "x")


@pytest.mark.parametrize(
    "option",
    [
        "at => 'infinity'",
        "at => '-infinity'",
        "at => '12000-01-01'",
        "delay => '9000 years'",
        "deadline => '9000 years'",
    ],
)
def test_a_time_that_no_worker_could_read_is_refused(db: Db, option: str) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue, match="do not fit"):
        db.execute(f"SELECT flowgen.start('far', {option})")  # type: ignore[call-overload]
