"""What docs/coming-from/tasker.md says of ours and no other test proves."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import attrs
import psycopg
import pytest

from flowgen import App, Checkpoint, Context, Flow, Graph, Invoke, Retry, RunFailed, Step, StepContext
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers

CUSTOMER = UUID(int=7)


@attrs.frozen
class Order:
    order_id: str
    cents: int


def test_a_step_of_a_graph_reads_what_a_step_of_theirs_reads(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    seen: dict[str, Any] = {}

    @app.task
    def validate(order_id: str) -> dict[str, Any]:
        return {"result": order_id}

    @app.task
    def process(ctx: StepContext) -> dict[str, Any]:
        return {"stats": {"count": 7}}

    @app.task(config={"api_url": "https://api.example.com"})
    def ship(ctx: StepContext) -> None:
        seen.update(
            order_id=ctx.get_input("order_id"),
            batch_size=ctx.get_input_or("batch_size", 100),
            api_url=ctx.get_config("api_url"),
            validated=ctx.get_dependency_result("validate"),
            item_count=ctx.get_dependency_field("process", "stats", "count"),
            nothing=ctx.get_dependency_field("process", "stats", "none", 3),
            keys=sorted(ctx.dependency_results),
            input_data=ctx.input_data,
            context=ctx.context,
            step_config=ctx.step_config,
            start_from=ctx.checkpoint_cursor or 0,
            task_uuid=ctx.task_uuid,
            missing=(ctx.get_input("none"), ctx.get_config("none"), ctx.get_dependency_result("none"), ctx.checkpoint),
            unsaved=(ctx.has_checkpoint(), ctx.checkpoint_items_processed, ctx.accumulated_results),
        )

    @app.workflow
    def order(order_id: str, batch_size: int | None = None) -> Flow[None]:
        yield Graph(
            Step(validate, order_id),
            Step(process).opts(after=validate),
            Step(ship).opts(after=[validate, process], config={"batch": 2}),
        )

    flowgen_worker(app)
    run = flowgen_client.start(order.call("o-1").opts(id="mine"))
    run.result(timeout=20)
    assert seen == {
        "order_id": "o-1",
        "batch_size": 100,
        "api_url": "https://api.example.com",
        "validated": {"result": "o-1"},
        "item_count": 7,
        "nothing": None,
        "keys": ["process", "validate"],
        "input_data": {"order_id": "o-1"},
        "context": {"order_id": "o-1"},
        "step_config": {"api_url": "https://api.example.com", "batch": 2},
        "start_from": 0,
        "task_uuid": run.uuid,
        "missing": (None, None, None, None),
        "unsaved": (False, 0, None),
    }


def test_the_retry_helpers_count_as_theirs_do(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    seen: list[tuple[Any, ...]] = []
    uuids: set[UUID] = set()

    @app.task(retry=Retry(3, initial=0.01))
    def flaky(ctx: StepContext) -> str:
        uuids.add(ctx.step_uuid)
        seen.append((ctx.attempt, ctx.retry_count, ctx.max_retries, ctx.is_retry(), ctx.is_last_retry()))
        if not ctx.is_last_retry():
            raise ValueError("again")
        return "third"

    @app.workflow
    def order() -> Flow[str]:
        return (yield from Step(flaky))

    flowgen_worker(app)
    counted = [(1, 0, 2, False, False), (2, 1, 2, True, False), (3, 2, 2, True, True)]
    for number, start in enumerate((flaky, order), 1):
        run = flowgen_client.start(start)
        assert run.result(timeout=20) == "third"
        assert seen == counted * number
        assert run.uuid not in uuids
        assert len(uuids) == number, "one UUID over all attempts of a step"


def test_a_batch_that_fails_goes_on_from_what_it_saved(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    begun: list[tuple[Any, ...]] = []
    seen_in_steps: list[Any] = []

    @app.task(retry=Retry(1))
    def load(ctx: StepContext, page: int) -> int:
        seen_in_steps.append((page, ctx.checkpoint_cursor, ctx.has_checkpoint()))
        if page == 2 and len(seen_in_steps) == 3:
            raise ValueError("page 2")
        return 10

    @app.task(retry=Retry(2, initial=0.01))
    def batch(ctx: Context) -> Flow[dict[str, int]]:
        cursor, items, totals = ctx.checkpoint_cursor or 0, ctx.checkpoint_items_processed, ctx.accumulated_results
        begun.append((ctx.has_checkpoint(), ctx.checkpoint, cursor, items, totals))
        totals = totals or {"sum": 0}
        for page in range(cursor, 4):
            loaded = yield from Step(load, page)
            items, totals = items + loaded, {"sum": totals["sum"] + loaded * page}
            yield Checkpoint(page + 1, items_processed=items, accumulated_results=totals)
        return {"items": items, **totals}

    flowgen_worker(app)
    assert flowgen_client.start(batch).result(timeout=20) == {"items": 40, "sum": 60}
    saved = {"cursor": 2, "items_processed": 20, "accumulated_results": {"sum": 10}}
    assert begun[0] == (False, None, 0, 0, None)
    assert (True, saved, 2, 20, {"sum": 10}) in begun
    assert seen_in_steps == [(0, None, False), (1, 1, True), (2, 2, True), (2, 2, True), (3, 3, True)]


def test_a_checkpoint_is_one_row_that_closes_its_segment_in_one_commit(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: psycopg.Connection[Any]
) -> None:
    db.execute("create table wrote (tx text, what text, index int)")
    for what, event, changed in (
        ("base", "update", "old.base is distinct from new.base"),
        ("index", "insert", "new.key = 'checkpoint'"),
    ):
        table = "run" if what == "base" else "entry"
        db.execute(
            f"create function note_{what}() returns trigger language plpgsql as $$ begin "
            f"insert into public.wrote values (pg_current_xact_id()::text, '{table}', new.{what}); return null; end $$"
        )
        db.execute(
            f"create trigger note_{what} after {event} on flowgen.{table} for each row "
            f"when ({changed}) execute function public.note_{what}()"
        )

    def load(page: int) -> int:
        return page

    @app.task
    def batch(ctx: Context) -> Flow[int]:
        totals = ctx.accumulated_results or {"sum": 0}
        for page in range(ctx.checkpoint_cursor or 0, 3):
            totals = {"sum": totals["sum"] + (yield from Step(load, page))}
            yield Checkpoint(page + 1, (page + 1) * 10, totals)
        return ctx.checkpoint_items_processed

    flowgen_worker(app)
    run = flowgen_client.start(batch)
    assert run.result(timeout=20) == 30
    (saved,) = [item for item in flowgen_client.history(run.id) if item.kind == "checkpoint"]
    assert saved.value == [3, 30, {"sum": 3}]
    entries, bases = (
        db.execute("select tx, index from wrote where what = %s order by 2", (what,)).fetchall()
        for what in ("entry", "run")
    )
    assert len(entries) == 3
    assert bases == entries, "the checkpoint, and that its segment is closed, in one transaction"


def test_a_cursor_is_anything(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    called: set[str] = set()

    def fails_once(cursor: Any) -> None:
        if repr(cursor) not in called:
            called.add(repr(cursor))
            raise ValueError("once")

    @app.workflow
    def saves(ctx: Context, cursor: Any) -> Flow[Any]:
        if not ctx.has_checkpoint():
            yield Checkpoint(cursor)
        yield Step(fails_once, cursor).opts(retry=Retry(1))
        return ctx.checkpoint_cursor

    cursors: list[Any] = [7, "page-7", {"page": 7, "of": ["a", None]}, 0, ""]
    flowgen_worker(app)
    runs = flowgen_client.start_many([saves.call(cursor) for cursor in cursors])
    for run in runs:
        with pytest.raises(RunFailed, match="once"):
            run.result(timeout=20)
        flowgen_client.retry(run.id)
    assert [run.result(timeout=20) for run in runs] == cursors


def test_a_result_comes_back_as_the_type_that_is_asked_for(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.task
    def validate(order_id: str) -> Order:
        return Order(order_id, 500)

    def wrap(order: Order) -> dict[str, list[Order]]:
        return {"orders": [order]}

    @app.task
    def ship(ctx: StepContext, order: Order) -> list[Any]:
        asked = ctx.get_dependency_result("validate", Order)
        assert asked == order == ctx.get_dependency_result(validate, Order)
        assert ctx.get_dependency_field("wrap", "orders", 0, type=Order) == order
        assert ctx.get_input("customer", UUID) == CUSTOMER
        assert ctx.get_input("customer") == str(CUSTOMER)
        return [ctx.get_dependency_result("validate"), ctx.get_dependency_field(validate, "cents")]

    @app.workflow
    def order(order_id: str, customer: UUID) -> Flow[list[Any]]:
        valid = yield from Step(validate, order_id)
        yield Step(wrap, valid)
        assert isinstance(valid, Order)
        return (yield from Step(ship, valid))

    flowgen_worker(app)
    assert flowgen_client.start(order, "o-1", CUSTOMER).result(timeout=20) == [{"order_id": "o-1", "cents": 500}, 500]


def test_children_have_the_correlation_id_of_who_started_them(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.task
    def step(ctx: StepContext) -> str | None:
        return ctx.correlation_id

    @app.workflow
    def child(ctx: Context) -> Flow[list[str | None]]:
        return [ctx.correlation_id, (yield from Step(step)), (yield from Invoke(step))]

    @app.workflow
    def parent(ctx: Context) -> Flow[list[str | None]]:
        return [ctx.correlation_id, *(yield from Invoke(child))]

    flowgen_worker(app)
    run = flowgen_client.start(parent.call().opts(correlation_id="c-1"))
    assert run.result(timeout=20) == ["c-1"] * 4
