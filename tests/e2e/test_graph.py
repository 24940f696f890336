"""Graph on a real worker: order, what its functions read, and a worker that is killed in the middle."""

from __future__ import annotations

from typing import Any

from psycopg import AsyncConnection, Connection

import flowgen
from flowgen import App, Choose, Context, Flow, Graph, Invoke, Map, PermanentError, Step, StepContext, Transaction
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program
from tests.waiting import eventually

KILLED = """
from flowgen import Choose, Graph, GraphResult

@task
def validate(order_id: str) -> dict[str, str]:
    note("validate")
    return {"order": order_id}

@task
def reserve(ctx: StepContext) -> str:
    note("reserve")
    return "r-" + ctx.get_dependency_field("validate", "order")

@task
def invoice(ctx: StepContext) -> str:
    note("invoice begins")
    gate("go on")
    note("invoice ends")
    return "i-" + ctx.get_dependency_field("validate", "order") + str(ctx.get_dependency_result("reserve"))

@task
def route() -> Choose:
    note("route")
    return Choose("pack")

@task
def pack(n: int) -> str:
    note(f"pack {n}")
    return f"packed {n}"

@task
def tell() -> None:
    note("tell")

@task
def ship(ctx: StepContext) -> str:
    note("ship")
    return " ".join(str(ctx.get_dependency_result(name)) for name in ("reserve", "invoice", "pack"))

@workflow
def order(order_id: str) -> Flow[list[str]]:
    done = yield from Graph(
        Step(validate, order_id),
        Step(reserve).opts(after=validate),
        Step(invoice).opts(after=validate),
        Step(route).opts(after=reserve),
        Invoke(pack, 1).opts(after=route),
        Step(tell).opts(after=route),
        Step(ship).opts(after=[reserve, invoice, pack]),
    )
    return [done[ship], *done.skipped.values()]
"""


def test_a_crash_in_the_middle_repeats_unfinished_nodes_only(program: Program, flowgen_client: Client) -> None:
    program.write(KILLED)
    first = program.start()
    run = flowgen_client.start(flowgen.call("order", order_id="o").opts(id="o"))
    program.noted("pack 1")
    program.noted("invoice begins")
    eventually(lambda: "graph/tell" in {each.path for each in flowgen_client.history(run.id)})
    first.kill()
    program.open("go on")
    program.start()
    assert run.result(timeout=30) == ["r-o i-oNone packed 1", "route chose pack"]
    counts = {what: program.notes().count(what) for what in set(program.notes())}
    assert counts == {
        "validate": 1, "reserve": 1, "route": 1, "pack 1": 1, "invoice begins": 2, "invoice ends": 1, "ship": 1,
    }  # fmt: skip
    (skipped,) = [each for each in flowgen_client.history(run.id) if each.outcome == "skipped"]
    assert (skipped.path, skipped.command, skipped.value) == ("graph/tell", "skip", "route chose pack")


def test_decisions_failures_and_dependencies_of_every_sort_of_node(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.task
    def load(n: int) -> int:
        return 10 * n

    @app.task
    def refuse() -> None:
        raise PermanentError("not today")

    @app.task
    async def route(ctx: StepContext) -> Choose:
        return Choose("save") if ctx.get_dependency_result("pages") == [10, 20] else Choose("drop")

    def save(conn: Connection[Any]) -> list[Any]:
        ctx = flowgen.current()
        row = conn.execute("select 7").fetchone()
        return [row and row[0], sorted(ctx.get_dependency_result_keys())]

    async def drop(conn: AsyncConnection[Any]) -> None:
        raise AssertionError("it was not chosen")

    @app.workflow
    def child(ctx: Context) -> Flow[list[str]]:
        yield from Step(load, 1)
        return ctx.get_dependency_result_keys()

    @app.workflow
    def parent() -> Flow[list[Any]]:
        yield from Step(load, 0).opts(name="before")
        done = yield from Graph(
            Map(load, [1, 2]).opts(name="pages"),
            Invoke(refuse),
            Step(route).opts(after="pages"),
            Transaction(save).opts(after=[route]),
            Transaction(drop).opts(after=[route]),
            Invoke(child).opts(after=[refuse, save], join="any_success"),
            Step(load, 3).opts(name="last", after=[child], when=lambda done: "load" in done[child]),
        ).opts(name="g")
        return [
            done["save"],
            done[child],
            done["last"],
            dict(done.skipped),
            {k: str(v) for k, v in done.failed.items()},
        ]

    flowgen_worker(app)
    saved, inside, last, skipped, failed = flowgen_client.start(parent).result(timeout=20)
    assert saved == [7, ["before", "pages", "pages/0/load", "pages/1/load", "route"]]
    assert (inside, last) == (["load"], 30)
    assert skipped == {"drop": "route chose save"}
    assert failed == {"refuse": "PermanentError: not today"}
