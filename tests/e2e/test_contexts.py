"""What handlers and functions read of their run on a real worker: all of it, or None where there is nothing."""

from __future__ import annotations

import logging
import threading
from typing import Any

import attrs
import psycopg
import pytest
from typing_extensions import TypedDict

import flowgen
from flowgen import App, Checkpoint, Context, Emit, Flow, Invoke, Retry, RunFailed, RunQuery, Sleep, Step, StepContext
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program
from tests.waiting import eventually

Db = psycopg.Connection[Any]


@attrs.frozen
class Order:
    order_id: str
    cents: int = 0


class Parcel(TypedDict):
    order_id: str
    weights: list[float]


ACCESSORS = [
    "accumulated_results", "attempt", "checkpoint", "checkpoint_cursor", "checkpoint_items_processed", "context",
    "correlation_id", "dependency_results", "execution_id", "input_data", "max_retries", "parent_correlation_id",
    "retry_count", "run_id", "services", "step_config", "task_uuid",
]  # fmt: skip
ASKED = ["get_all_dependency_results", "get_dependency_result_keys", "has_checkpoint", "is_last_retry", "is_retry"]


def everything(ctx: Context[Any]) -> dict[str, Any]:
    found = {name: getattr(ctx, name) for name in ACCESSORS} | {name: getattr(ctx, name)() for name in ASKED}
    return {
        **found,
        "task_uuid": str(ctx.task_uuid),
        "trigger": [ctx.trigger.kind, ctx.trigger.name, ctx.trigger.payload, ctx.trigger.scheduled_at],
        "get_input": [ctx.get_input("order_id"), ctx.get_input("none")],
        "get_input_or": [ctx.get_input_or("order_id", "d"), ctx.get_input_or("none", "d")],
        "get_config": [ctx.get_config("api"), ctx.get_config("none"), ctx.get_config("none", 3)],
        "get_dependency_result": [ctx.get_dependency_result("first"), ctx.get_dependency_result("none", Order)],
        "get_dependency_field": [
            ctx.get_dependency_field("first", "a", 0),
            ctx.get_dependency_field("first", "a", 9),
            ctx.get_dependency_field("none", "a"),
        ],
    }


def test_every_accessor_has_its_value_and_missing_data_is_none_or_the_default(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    app.services = "services"

    @app.task
    def bare(ctx: StepContext) -> dict[str, Any]:
        return everything(ctx)

    def first() -> dict[str, Any]:
        return {"a": [7], "result": 1}

    @app.task(config={"api": "v1"}, retry=Retry(2))
    def look(ctx: StepContext) -> dict[str, Any]:
        return everything(ctx)

    @app.workflow(config={"api": "v2"})
    def order(ctx: Context, order_id: str) -> Flow[list[dict[str, Any]]]:
        yield Step(first)
        if not ctx.has_checkpoint():
            yield Checkpoint("c", 3, [1])
        inside = yield from Step(look)
        return [inside, everything(ctx)]

    flowgen_worker(app)
    empty = flowgen_client.start(bare)
    run = flowgen_client.start(order.call("o-1").opts(id="mine", correlation_id="c-1"))
    result = {"a": [7], "result": 1}
    kept = {"first": result}
    common: dict[str, Any] = {
        "accumulated_results": [1],
        "attempt": 1,
        "checkpoint": {"cursor": "c", "items_processed": 3, "accumulated_results": [1]},
        "checkpoint_cursor": "c",
        "checkpoint_items_processed": 3,
        "context": {"order_id": "o-1"},
        "correlation_id": "c-1",
        "execution_id": "mine",
        "get_dependency_field": [7, None, None],
        "get_dependency_result": [result, None],
        "get_input": ["o-1", None],
        "get_input_or": ["o-1", "d"],
        "has_checkpoint": True,
        "input_data": {"order_id": "o-1"},
        "is_retry": False,
        "parent_correlation_id": None,
        "retry_count": 0,
        "run_id": "mine",
        "services": "services",
        "task_uuid": str(run.uuid),
        "trigger": ["call", None, None, None],
    }
    inside, outside = run.result(timeout=20)
    of_step = {"dependency_results": kept, "get_all_dependency_results": kept, "get_dependency_result_keys": ["first"]}
    assert inside == {
        **common,
        **of_step,
        "get_config": ["v1", None, 3],
        "is_last_retry": False,
        "max_retries": 1,
        "step_config": {"api": "v1"},
    }
    assert outside == {
        **common,
        "dependency_results": {**kept, "look": inside},
        "get_all_dependency_results": {**kept, "look": inside},
        "get_config": ["v2", None, 3],
        "get_dependency_result_keys": ["first", "look"],
        "is_last_retry": True,
        "max_retries": 0,
        "step_config": {"api": "v2"},
    }
    assert empty.result(timeout=20) == {
        **dict.fromkeys(common),
        "attempt": 1,
        "checkpoint_items_processed": 0,
        "context": {},
        "dependency_results": {},
        "execution_id": empty.id,
        "get_all_dependency_results": {},
        "get_config": [None, None, 3],
        "get_dependency_field": [None, None, None],
        "get_dependency_result": [None, None],
        "get_dependency_result_keys": [],
        "get_input": [None, None],
        "get_input_or": ["d", "d"],
        "has_checkpoint": False,
        "input_data": {},
        "is_last_retry": False,
        "is_retry": False,
        "max_retries": 2,
        "retry_count": 0,
        "run_id": str(empty.uuid),
        "services": "services",
        "step_config": {},
        "task_uuid": str(empty.uuid),
        "trigger": ["call", None, None, None],
    }


def test_a_start_after_a_wait_a_checkpoint_or_a_killed_worker_is_known(
    program: Program, flowgen_client: Client
) -> None:
    program.write(
        """
def step():
    note("called")
    gate("go")

@workflow
def killed(ctx: Context) -> Flow[None]:
    note(f"killed {ctx.is_resumed()}")
    yield Step(step)

@workflow
def sleeps(ctx: Context) -> Flow[None]:
    note(f"sleeps {ctx.is_resumed()}")
    yield Sleep(0.05)

@workflow
def saves(ctx: Context) -> Flow[None]:
    note(f"saves {ctx.is_resumed()} {ctx.has_checkpoint()}")
    if not ctx.has_checkpoint():
        yield Checkpoint(1)
        yield Sleep(0.05)
""",
        settings="Settings(lease=2, poll=0.1, cache=0)",
    )
    first = program.start()
    run = flowgen_client.start(flowgen.call("killed"))
    program.noted("called")
    first.kill()
    program.open("go")
    program.start()
    runs = [flowgen_client.start(flowgen.call(name)) for name in ("sleeps", "saves")]
    for each in (run, *runs):
        each.result(timeout=20)
    for name in ("killed", "sleeps", "saves"):
        notes = [each.removeprefix(f"{name} ") for each in program.notes() if each.startswith(name)]
        assert notes[0].startswith("False"), notes
        assert len(notes) >= 2
        assert {each.split()[0] for each in notes[1:]} == {"True"}, notes


def test_an_input_of_another_shape_is_permanent_and_names_the_field(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    calls: list[str] = []

    @app.task(retry=Retry(5, initial=0.01))
    def ship(ctx: StepContext, order_id: str, cents: Any = 0, weights: Any = ()) -> list[Any]:
        calls.append(order_id)
        order, parcel = ctx.input_as(Order), ctx.input_as(Parcel)
        return [type(order).__name__, order.cents, parcel["weights"]]

    @app.workflow(retry=Retry(5, initial=0.01))
    def reads(ctx: Context, order_id: str, cents: Any) -> Flow[int]:
        calls.append(order_id)
        yield Sleep(0)
        return ctx.input_as(Order).cents

    @app.task(retry=Retry(5, initial=0.01))
    def depends(ctx: StepContext) -> Order | None:
        calls.append("depends")
        return ctx.get_dependency_result("before", Order)

    @app.workflow
    def after(before: Any) -> Flow[Any]:
        yield Step(same, before).opts(name="before")
        return (yield from Step(depends))

    def same(value: Any) -> Any:
        return value

    flowgen_worker(app)
    assert flowgen_client.start(ship, "fits", 5, [1, 2.5]).result(timeout=20) == ["Order", 5, [1.0, 2.5]]
    assert flowgen_client.start(after, {"order_id": "o"}).result(timeout=20) == {"order_id": "o", "cents": 0}
    calls.clear()
    runs = {
        "the input cannot be read at $.cents: found str, allowed: int": flowgen_client.start(ship, "a", "many", []),
        "the input cannot be read at $.weights[1]: found str, allowed: float": flowgen_client.start(
            ship, "b", 5, [1, "x"]
        ),
        "the input cannot be read at $.cents: found list, allowed: int": flowgen_client.start(reads, "c", [1]),
        "the result of before cannot be read at $.order_id: found int, allowed: str": flowgen_client.start(
            after, {"order_id": 7}
        ),
    }
    for said, run in runs.items():
        with pytest.raises(RunFailed) as failed:
            run.result(timeout=20)
        assert said in str(failed.value)
    assert sorted(set(calls)) == ["a", "b", "c", "depends"]
    assert [calls.count(each) for each in ("a", "b", "depends")] == [1, 1, 1], "it is permanent"
    assert {run.refresh().attempt for run in runs.values()} == {1}


def test_a_correlation_id_flows_to_children_events_what_they_start_and_the_log(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    seen: dict[str, list[tuple[str | None, str | None]]] = {"parent": [], "child": [], "step": [], "triggered": []}
    triggered_twice = threading.Event()

    def note(ctx: Context[Any], where: str) -> None:
        seen[where].append((ctx.correlation_id, ctx.parent_correlation_id))
        ctx.logger.info("in %s", where)

    @app.task(on="told")
    def triggered(ctx: StepContext) -> None:
        note(ctx, "triggered")
        if len(seen["triggered"]) == 2:
            triggered_twice.set()

    @app.task
    def step(ctx: StepContext) -> None:
        note(ctx, "step")

    @app.workflow
    def child(ctx: Context) -> Flow[None]:
        yield Step(step)
        note(ctx, "child")
        yield Emit("told", {})

    @app.workflow
    def parent(ctx: Context) -> Flow[None]:
        yield Invoke(child)
        note(ctx, "parent")

    flowgen_worker(app)
    given = flowgen_client.start(parent.call().opts(correlation_id="c-1"))
    given.result(timeout=20)
    eventually(lambda: len(seen["triggered"]) == 1)
    without = flowgen_client.start(parent)
    without.result(timeout=20)
    assert triggered_twice.wait(20)
    root = str(without.uuid)
    assert {where: {each[0] for each in ids} for where, ids in seen.items()} == {
        "parent": {"c-1", None}, "child": {"c-1", root}, "step": {"c-1", root}, "triggered": {"c-1", root},
    }  # fmt: skip
    assert {where: {each[1] for each in ids} for where, ids in seen.items()} == {
        "parent": {None}, "child": {"c-1", None}, "step": {"c-1", None}, "triggered": {"c-1", root},
    }  # fmt: skip
    lines = {each.getMessage(): each.flowgen for each in reversed(caplog.records) if hasattr(each, "flowgen")}
    (row,) = flowgen_client.list(RunQuery(name="child", parent=given.uuid))
    common = {"attempt": 1, "correlation_id": "c-1"}
    assert lines["in parent"] == {**common, "run_id": given.id, "name": "parent"}
    assert lines["in child"] == {**common, "run_id": row.id, "name": "child"}
    assert lines["in step"] == {**common, "run_id": row.id, "name": "child", "step": "step"}
    assert lines["in triggered"].items() >= {**common, "name": "triggered", "step": "triggered"}.items()
    assert row.correlation_id == "c-1"
    db.execute("select flowgen.emit('told', '{}', 'of sql')")
    eventually(lambda: seen["triggered"][-1] == ("of sql", "of sql"))
