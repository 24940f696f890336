"""Race on a real worker: the losers are really cancelled, whatever they are."""

from __future__ import annotations

import threading
from typing import Any

import psycopg

import flowgen
from flowgen import (
    App,
    Flow,
    Gather,
    Invoke,
    PermanentError,
    Race,
    RunQuery,
    Scope,
    Sleep,
    Step,
    StepContext,
    StepFailed,
)
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program
from tests.waiting import eventually


def test_the_losers_are_cancelled_child_runs_steps_and_waits(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    """The child run has a child of its own, and the step hears of its abort while it runs."""
    heard: list[str | None] = []
    begun, over = threading.Event(), threading.Event()

    @app.workflow
    def grandchild() -> Flow[None]:
        yield Sleep(hours=1)

    @app.workflow
    def child() -> Flow[None]:
        yield Invoke(grandchild)

    def slow(ctx: StepContext) -> str:
        begun.set()
        if ctx.signal.wait(20):
            heard.append(ctx.signal.reason)
        over.set()
        return "too late"

    def quick() -> str:
        assert begun.wait(20)
        eventually(lambda: flowgen_client.count(RunQuery(name="grandchild", status="waiting")) == 1)
        return "won"

    @app.workflow
    def parent() -> Flow[list[Any]]:
        won = yield from Race(quick=Step(quick), child=Invoke(child), slow=Step(slow), late=Sleep(hours=1))
        return [won.tag, won.value]

    flowgen_worker(app)
    run = flowgen_client.start(parent)
    assert run.result(timeout=30) == ["quick", "won"]
    assert over.wait(20)
    assert heard == ["its branch was cancelled"]
    for name in ("child", "grandchild"):
        eventually(lambda name=name: flowgen_client.count(RunQuery(name=name, status="cancelled")) == 1)  # type: ignore[misc]
    paths = [each.path for each in flowgen_client.history(run.id) if each.kind == "outcome"]
    assert paths == ["race/quick/quick"]
    assert flowgen_client.get(run.id).due_at is None


def test_a_child_run_wins_and_the_run_is_woken_by_it_alone(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow
    def sleeper(seconds: float) -> Flow[float]:
        yield Sleep(seconds)
        return seconds

    @app.workflow
    def parent() -> Flow[list[Any]]:
        race = Race(fast=Invoke(sleeper, 0.05), slow=Invoke(sleeper, 3600))
        won, _ = yield from Gather(race, Scope("beside", sleeper(0.1)))
        return [won.tag, won.value]

    flowgen_worker(app)
    assert flowgen_client.start(parent).result(timeout=20) == ["fast", 0.05]
    eventually(lambda: flowgen_client.count(RunQuery(name="sleeper", status="cancelled")) == 1)


def test_a_failure_that_is_first_is_rethrown_and_the_others_are_cancelled(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    def fails() -> None:
        raise PermanentError("no")

    @app.workflow
    def child() -> Flow[None]:
        yield Sleep(hours=1)

    @app.workflow
    def parent() -> Flow[str]:
        try:
            yield from Race(child=Invoke(child), fails=Step(fails))
        except StepFailed as error:
            return str(error.name)
        return "won"

    flowgen_worker(app)
    assert flowgen_client.start(parent).result(timeout=20) == "race/fails/fails"
    eventually(lambda: flowgen_client.count(RunQuery(name="child", status="cancelled")) == 1)


def test_a_loser_whose_row_is_locked_when_the_race_ends_is_cancelled_too(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_database: str
) -> None:
    may_end = threading.Event()

    @app.workflow
    def child() -> Flow[None]:
        yield Sleep(hours=1)

    @app.workflow
    def parent() -> Flow[str]:
        return (yield from Race(child=Invoke(child), quick=Step(may_end.wait, 20).opts(name="quick"))).tag

    flowgen_worker(app)
    run = flowgen_client.start(parent)
    eventually(lambda: flowgen_client.count(RunQuery(name="child", status="waiting")) == 1)
    with psycopg.connect(flowgen_database) as conn:
        conn.execute("select from flowgen.run where name = 'child' for update")
        may_end.set()
        assert run.result(timeout=20) == "quick"
    eventually(lambda: flowgen_client.count(RunQuery(name="child", status="cancelled")) == 1)


KILLED = """
from flowgen import Race

@workflow
def child() -> Flow[None]:
    yield Sleep(hours=1)

@task
def after() -> str:
    note("after")
    gate("go on")
    return "done"

@workflow
def racing_parent() -> Flow[list[str]]:
    won = yield from Race(nap=Sleep(0.1), child=Invoke(child))
    return [won.tag, (yield from Step(after))]
"""


def test_a_race_that_is_over_is_over_after_a_killed_worker(program: Program, flowgen_client: Client) -> None:
    program.write(KILLED)
    first = program.start()
    run = flowgen_client.start(flowgen.call("racing_parent"))
    program.noted("after")
    eventually(lambda: flowgen_client.count(RunQuery(name="child", status="cancelled")) == 1)
    first.kill()
    program.open("go on")
    program.start()
    assert run.result(timeout=30) == ["nap", "done"]
    assert flowgen_client.count(RunQuery(name="child")) == 1
