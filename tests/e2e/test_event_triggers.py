"""Triggers: each event starts one run of each definition that it is for, in the emitter's transaction."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
import pytest

import flowgen
from flowgen import App, Context, Emit, Flow, On, RunFailed, RunQuery, StepContext
from flowgen.client.sync import Client
from flowgen.postgres.events import triggered_run_id
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program
from tests.waiting import eventually

Db = psycopg.Connection[Any]


def test_an_event_starts_one_run_of_each_definition_that_it_is_for(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    @app.task(on="order.paid")
    def pack(ctx: StepContext, id: int, cents: int = 0) -> list[Any]:
        return [id, cents, ctx.trigger.kind, ctx.trigger.name, ctx.trigger.payload]

    @app.workflow(on=[On("order.paid", when={"cents": {"ge": 100}}), On("order.paid", when={"id": 2}), "order.lost"])
    def call(ctx: Context, id: int, **more: Any) -> Flow[list[Any]]:
        yield Emit("called", id)
        return [id, sorted(more), ctx.trigger.payload]

    @app.task(on="called")
    def note(what: Any) -> Any:
        return what

    for _ in range(2):
        flowgen_worker(app)
    one = flowgen_client.emit("order.paid", {"id": 1, "cents": 99})
    (two,) = db.execute("select flowgen.emit('order.paid', '{\"id\": 2, \"cents\": 100}')").fetchone() or ("",)
    packed = flowgen_client.get(triggered_run_id(UUID(one), "pack"), pack)
    assert packed.result(timeout=20) == [1, 99, "event", "order.paid", {"id": 1, "cents": 99}]
    called = flowgen_client.get(triggered_run_id(UUID(two), "call"), call)
    assert called.result(timeout=20) == [2, ["cents"], {"id": 2, "cents": 100}]
    eventually(lambda: flowgen_client.count(RunQuery(name="note", status="completed")) == 1, 20)
    (noted,) = flowgen_client.list(RunQuery(name="note"))
    assert noted.output == 2
    assert noted.correlation_id == called.id
    assert flowgen_client.count(RunQuery(name="pack")) == 2
    assert flowgen_client.count(RunQuery(name="call")) == 1


def test_a_triggered_run_is_there_if_and_only_if_the_emitters_transaction_commits(
    app: App, flowgen_database: str, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.task(on="paid")
    def pack(what: list[Any]) -> list[Any]:
        return what

    flowgen_worker(app).stop()
    with psycopg.connect(flowgen_database) as conn:
        conn.execute("select flowgen.emit('paid', '[[1], {}]')")
        assert conn.execute("select count(*) from flowgen.run").fetchone() == (1,)
        conn.rollback()
        conn.execute("select flowgen.emit('paid', '[[2], {}]')")
    flowgen_worker(app)
    eventually(lambda: flowgen_client.count(RunQuery(status="completed")) == 1, 20)
    assert [run.output for run in flowgen_client.list()] == [[[2], {}]]


def test_a_payload_that_does_not_fit_fails_that_run_for_good_and_names_the_parameter(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.task(on="paid", retry=flowgen.Retry(5))
    def pack(id: int) -> int:
        return id

    @app.workflow(on="paid")
    async def fits(**anything: Any) -> list[str]:
        return sorted(anything)

    flowgen_worker(app)
    for payload, said in (
        ({"id": "x"}, "id"),
        ({"other": 1}, "other"),
        ({}, "id"),
        ("x", "id"),
    ):
        event_id = UUID(flowgen_client.emit("paid", payload))
        with pytest.raises(RunFailed, match=said) as failed:
            flowgen_client.get(triggered_run_id(event_id, "pack")).result(timeout=20)
        assert failed.value.failure.type == "CodecError"
        assert flowgen_client.get(triggered_run_id(event_id, "pack")).attempt == 1
    eventually(lambda: flowgen_client.count(RunQuery(name="fits", status="completed")) == 3, 20)


def test_fields_are_those_that_changed_or_else_those_that_are_there(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.task(on=On("updated", fields=["status", "owner.id"]))
    def follow(**payload: Any) -> Any:
        return payload["n"]

    flowgen_worker(app)
    for n, payload in enumerate(
        [
            {"changed": ["status", "note"], "status": "x"},
            {"changed": ["note"], "status": "x"},
            {"status": None},
            {"owner": {"id": 1}},
            {"owner": {"name": "y"}},
        ]
    ):
        flowgen_client.emit("updated", {"n": n, **payload})
    flowgen_client.emit("updated", "status")
    eventually(lambda: flowgen_client.count(RunQuery(status="completed")) == 3, 20)
    assert sorted(run.output for run in flowgen_client.list()) == [0, 2, 3]


def test_a_worker_keeps_the_triggers_of_its_own_definitions_and_no_others(
    app: App, flowgen_worker: Workers, db: Db
) -> None:
    @app.task(on=["a", On("b", when={"x": 1}, fields="x")], queue="q", priority=3)
    def first() -> None: ...

    @app.task
    def second() -> None: ...

    other = App()

    @other.workflow(name="other", on="a", deadline="1h")
    async def another() -> None: ...

    flowgen_worker(app)
    flowgen_worker(other)
    look = "select target, number, event, filter::text, fields, queue, priority, kind, deadline::text from "
    look += "flowgen.event_trigger order by 1, 2"
    a = ("first", 1, "a", None, None, "q", 3, "task", None)
    c = ("other", 1, "a", None, None, "default", 0, "workflow", "01:00:00")
    assert db.execute(look).fetchall() == [a, ("first", 2, "b", '[[["x"], "eq", 1]]', ["x"], "q", 3, "task", None), c]
    later = App()

    @later.task(name="first", on="a", queue="q", priority=3)
    def again() -> None: ...

    flowgen_worker(later)
    assert db.execute(look).fetchall() == [a, c]


def test_one_event_starts_one_run_though_its_emitter_is_killed(program: Program, flowgen_client: Client) -> None:
    program.write(
        """
        from flowgen import Emit

        @task(on="done")
        def after(n: int) -> int:
            note(f"after {n}")
            return n

        @workflow
        def emits() -> Flow[None]:
            for n in range(3):
                yield Emit("done", n)
                yield Step(wait, n)

        def wait(n: int) -> None:
            note(f"emitted {n}")
            gate(f"g{n}")
        """.replace("\n        ", "\n")
    )
    flowgen_client.start(flowgen.call("emits"))
    for n in range(3):
        worker = program.start()
        program.noted(f"emitted {n}", timeout=30)
        worker.kill()
        program.open(f"g{n}")
    program.start()
    eventually(lambda: flowgen_client.count(RunQuery(name="emits", status="completed")) == 1, 30)
    eventually(lambda: flowgen_client.count(RunQuery(name="after", status="completed")) == 3, 30)
    assert flowgen_client.count(RunQuery(name="after")) == 3


def test_a_trigger_that_cannot_be_is_refused_where_it_is_written(app: App) -> None:
    with pytest.raises(flowgen.DefinitionError, match="on= takes the name of an event"):
        app.task(on=7)  # type: ignore[call-overload]
    with pytest.raises(flowgen.DefinitionError, match=r"On\('x', when=\) 'a' has the condition 'above'"):
        On("x", when={"a": {"above": 3}})
    with pytest.raises(flowgen.DefinitionError, match=r"On\('x', fields=\) is empty"):
        On("x", fields=[])
