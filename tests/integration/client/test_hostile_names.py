"""Whatever a name, an id or a word holds, it is a parameter: it comes back as it was, and no statement breaks on it."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import App, DefinitionError, Flow, Invoke, RunQuery, Schedule, SchemaError, Settings, Step, Unschedule
from flowgen.client.sync import Client, connect
from flowgen.postgres.database import Schema
from flowgen.testing.workers import Workers
from tests.hostile import TAKEN

FOREVER = "0 0 1 1 *"


def echo(text: str) -> str:
    return text


def flow_of(name: str) -> Any:
    def handler(text: str) -> Flow[list[str]]:
        said = yield from Step(echo, text).opts(name=name)
        again = yield from Invoke(f"task {name}", text).opts(id=f"child {text}", queue=name, tags=[name])
        yield Schedule(flowgen.call(f"task {name}", text=text), name, cron=FOREVER)
        return [said, again]

    return handler


@pytest.mark.bad_input("B55")
def test_every_verb_takes_every_text_as_text(flowgen_database: str, flowgen_worker: Workers, db: Any) -> None:
    app = App()
    for name in TAKEN:
        app.workflow(name=f"flow {name}")(flow_of(name))
        app.task(name=f"task {name}")(echo)
    names = TAKEN
    with connect(flowgen_database, app=app) as client:
        runs = client.start_many(
            flowgen.call(f"flow {name}", text=name).opts(
                id=f"id {name}", queue=name, tags=[name, "t"], correlation_id=f"corr {name}"
            )
            for name in names
        )
        flowgen_worker(app)
        for name, run in zip(names, runs, strict=True):
            assert run.result(timeout=60) == [name, name]
        for name in names:
            _look(client, name)
        assert client.count(RunQuery(tags=["t"])) == len(names)
        one = client.start(flowgen.call("unknown", text="x").opts(delay="1d"))
        for name in names:
            assert client.set_deadline(one.id, "1d").id == one.id
            assert client.pause(one.id, name).status == "paused"
            client.resume(one.id)
            doomed = client.start(flowgen.call(f"task {name}", text=name).opts(delay="1d", id=f"doomed {name}"))
            error = client.cancel(doomed.id, name).error
            assert error is not None
            assert error.message == name
    rows = db.execute("SELECT name FROM flowgen.schedule").fetchall()
    assert {row[0] for row in rows} == set(names)


def _look(client: Client, name: str) -> None:
    """What is found by a text is what has that text, and nothing else."""
    run = client.get(f"id {name}")
    assert (run.id, run.queue, run.correlation_id) == (f"id {name}", name, f"corr {name}")
    assert set(run.tags) == {name, "t"}
    (found,) = client.list(RunQuery(name=f"flow {name}", queue=name, tags=name))
    assert found.uuid == run.uuid
    (child,) = client.list(RunQuery(parent=run.id))
    assert (child.id, child.queue, child.tags, child.name) == (f"child {name}", name, (name,), f"task {name}")
    assert client.history(run.id)[0].name == name
    assert name in str(client.trace(run.id).items) or client.trace(run.id).items
    assert "completed" in str(client.why(run.id))
    with pytest.raises(flowgen.RunNotFound):
        client.get(f"{name}{name} is nobody")


@pytest.mark.bad_input("B55")
def test_a_dynamic_schedule_of_any_name_is_removed_by_it(
    flowgen_worker: Workers, flowgen_client: Client, db: Any
) -> None:
    app = App()

    @app.workflow
    def schedules(remove: bool) -> Flow[None]:
        for name in TAKEN:
            if remove:
                yield Unschedule("schedules", name)
            else:
                yield Schedule(flowgen.call("schedules", remove=True), name, cron=FOREVER)

    flowgen_worker(app)
    flowgen_client.start(schedules, False).result(timeout=60)
    assert {row[0] for row in db.execute("SELECT name FROM flowgen.schedule")} == set(TAKEN)
    flowgen_client.start(schedules, True).result(timeout=60)
    assert db.execute("SELECT name FROM flowgen.schedule").fetchall() == []


@pytest.mark.bad_input("B56")
def test_an_id_as_long_as_the_limit_is_stored_and_one_byte_more_is_refused_before_anything_is_sent(
    flowgen_client: Client, db: Any
) -> None:
    longest = "🦀" * 128
    call = flowgen.call("anything")
    assert flowgen_client.start(call.opts(id=longest, correlation_id=longest)).id == longest
    assert flowgen_client.start(call.opts(id=longest)).attached
    with pytest.raises(DefinitionError, match="has 513 bytes; 512 are allowed"):
        flowgen_client.start(call.opts(id=longest + "x"))
    assert db.execute("SELECT count(*) FROM flowgen.run").fetchone() == (1,)


SCHEMAS = ['quo"te', "Upper Case", "select", "100% {schema} $1 %s", "'; DROP SCHEMA public; --"]


@pytest.mark.bad_input("B57")
def test_runs_complete_in_a_schema_of_any_name(flowgen_database: str, flowgen_worker: Workers, db: Any) -> None:
    app = App()
    task = app.task(echo)
    names = [*SCHEMAS, "schön\\", "x" * 63]
    for name in names:
        with connect(flowgen_database, app=app, settings=Settings(schema=name)) as client:
            run = client.start(task, name)
            flowgen_worker(app, schema=name, drain=True).join(30)
            assert run.result(timeout=30) == name
    kept = {row[0] for row in db.execute("SELECT nspname FROM pg_namespace")}
    assert {*names, "public", "flowgen"} <= kept


@pytest.mark.bad_input("B57")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "is empty"),
        ("  ", "is empty"),
        ("x" * 64, "has 64 bytes, of at most 63"),
        ("ü" * 32, "has 64 bytes, of at most 63"),
        ("pg_mine", "begins with pg_"),
        ("PG_mine", "begins with pg_"),
        ("information_schema", "is PostgreSQL's own"),
        ("a\0b", "cannot be printed"),
        ("a\nb", "cannot be printed"),
        ("a\u202eb", "cannot be printed"),
        ("a\ud800", "cannot be printed"),
        ("a$function$b", "holds $function$"),
    ],
)
def test_a_schema_name_that_cannot_be_one_is_refused_by_the_settings_and_by_the_store_alike(
    name: str, said: str
) -> None:
    with pytest.raises(DefinitionError) as refused:
        Settings(schema=name)
    assert said in str(refused.value)
    with pytest.raises(SchemaError) as again:
        Schema(name)
    assert str(again.value) == str(refused.value)


def test_the_fuzz_has_teeth(db: psycopg.Connection[Any]) -> None:
    """The same texts put into a statement break it."""
    broken = 0
    for text in (each for each in TAKEN if "sleep" not in each):
        try:
            db.execute(f"SELECT '{text}'".encode())
        except (psycopg.Error, ValueError):
            broken += 1
    assert broken >= 10
