"""Schedules: those that code declares and those that a run makes."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import App, Context, Cron, Flow, Schedule, Sleep, Unschedule
from flowgen.client.queries import RunQuery
from flowgen.client.sync import Client
from flowgen.testing.clock import Clock
from flowgen.testing.workers import Workers
from tests.waiting import eventually

Db = psycopg.Connection[Any]


def test_a_cron_task_runs_at_its_times_and_knows_them(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    ticks: list[tuple[str, Any]] = []

    @app.task(cron="* * * * * *")
    def tick() -> None:
        trigger = flowgen.current().trigger
        ticks.append((trigger.kind, trigger.scheduled_at))

    flowgen_worker(app)
    eventually(lambda: len(ticks) >= 2, timeout=10)
    assert {kind for kind, _ in ticks} == {"cron"}
    times = [at for _, at in ticks]
    assert len(set(times)) == len(times)
    assert all(at.microsecond == 0 for at in times)


def test_every_tick_is_one_run_however_many_workers_there_are(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_clock: Clock
) -> None:
    @app.task(cron="0 0 * * *")
    def nightly() -> None:
        return None

    for _ in range(3):
        flowgen_worker(app)
    for day in range(1, 4):
        flowgen_clock.advance("24h")
        eventually(lambda day=day: flowgen_client.count(RunQuery(name="nightly", status="completed")) == day)  # type: ignore[misc]
    eventually(lambda: flowgen_client.count(RunQuery(name="nightly")) == 3)


def test_the_arguments_of_a_cron_are_those_of_its_runs(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_clock: Clock
) -> None:
    seen: list[str] = []

    @app.task(
        cron=[Cron("0 1 * * *", args={"what": "one"}), Cron("0 2 * * *", timezone="Asia/Tokyo", args={"what": "two"})]
    )
    def report(what: str) -> None:
        seen.append(what)

    flowgen_worker(app)
    flowgen_clock.advance("24h")
    eventually(lambda: sorted(seen) == ["one", "two"])


def test_a_run_makes_a_schedule_and_takes_it_away(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    ticked = threading.Event()
    seen: list[tuple[str, str | None]] = []

    @app.task
    def ping(ctx: flowgen.StepContext, who: str) -> None:
        seen.append((who, ctx.trigger.name))
        ticked.set()

    @app.workflow
    def arranges() -> Flow[None]:
        yield Schedule(ping.call("you"), "pings", cron="* * * * * *")

    @app.workflow
    def removes() -> Flow[None]:
        yield Unschedule(ping, "pings")

    flowgen_worker(app)
    flowgen_client.start(arranges).result(timeout=10)
    assert ticked.wait(10)
    flowgen_client.start(removes).result(timeout=10)
    assert db.execute("select count(*) from flowgen.schedule").fetchone() == (0,)
    assert seen[0][0] == "you"
    ticks = flowgen_client.count(RunQuery(name="ping"))
    assert ticks >= 1


def test_a_worker_that_starts_touches_only_the_schedules_of_its_code(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    other = App()

    @app.task(cron="0 0 1 1 *")
    def yearly() -> None:
        return None

    @other.task(cron="0 0 1 2 *")
    def too() -> None:
        return None

    @app.workflow
    def arranges() -> Flow[None]:
        yield Schedule(yearly.call(), "dynamic", cron="0 0 1 3 *", timezone="Europe/Berlin")

    flowgen_worker(app)
    flowgen_client.start(arranges).result(timeout=10)
    flowgen_worker(other)
    flowgen_worker(app)
    found = db.execute("select target, name, origin, timezone from flowgen.schedule order by 1, 2").fetchall()
    assert found == [
        ("too", "cron", "code", "UTC"),
        ("yearly", "cron", "code", "UTC"),
        ("yearly", "dynamic", "dynamic", "Europe/Berlin"),
    ]


def test_a_schedule_that_the_code_no_longer_declares_goes_with_the_first_start_of_it(
    flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    def app(crons: list[str]) -> App:
        made = App()

        @made.task(name="report", cron=crons)
        def report() -> None: ...

        @made.workflow
        def arranges() -> Flow[None]:
            yield Schedule(flowgen.call("report"), "dynamic", cron="0 0 1 3 *")

        return made

    def names() -> list[str]:
        return [name for (name,) in db.execute("select name from flowgen.schedule order by 1").fetchall()]

    first = app(["0 0 1 1 *", "0 0 1 2 *", "0 0 1 4 *"])
    flowgen_worker(first)
    flowgen_client.start(flowgen.call("arranges")).result(timeout=10)
    assert names() == ["cron", "cron-2", "cron-3", "dynamic"]
    flowgen_worker(app(["0 0 1 1 *"]))
    assert names() == ["cron", "dynamic"]
    flowgen_worker(App())
    assert names() == ["cron", "dynamic"], "of a definition that it does not know a worker removes nothing"
    flowgen_worker(app([]))
    assert names() == ["dynamic"]


def test_a_scheduled_workflow_has_its_trigger(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_clock: Clock
) -> None:
    @app.workflow(cron="30 3 * * *")
    def nightly(ctx: Context) -> Flow[list[Any]]:
        yield Sleep(0)
        assert ctx.trigger.scheduled_at is not None
        return [ctx.trigger.kind, ctx.trigger.scheduled_at.strftime("%H:%M:%S")]

    flowgen_worker(app)
    flowgen_clock.advance("24h")
    run = eventually(lambda: [*flowgen_client.list(RunQuery(name="nightly"))])[0]
    assert run.result(timeout=10) == ["cron", "03:30:00"]


@pytest.mark.bad_input("B60")
def test_a_schedule_whose_zone_this_machine_does_not_know_stays_and_stops_nothing_else(
    app: App,
    db: Db,
    flowgen_client: Client,
    flowgen_worker: Workers,
    flowgen_clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    @app.task(cron=["0 0 * * *", Cron("0 0 * * *", timezone="Asia/Tokyo")])
    def nightly() -> None:
        return None

    handle = flowgen_worker(app)
    # what a machine with newer zones has declared
    db.execute("UPDATE flowgen.schedule SET timezone = 'Mars/Olympus' WHERE name = 'cron-2'")
    flowgen_clock.advance("24h")
    eventually(lambda: flowgen_client.count(RunQuery(name="nightly", status="completed")) == 1)
    flowgen_clock.advance("24h")
    eventually(lambda: flowgen_client.count(RunQuery(name="nightly", status="completed")) == 2)
    assert not handle.join(0)
    told = [record.getMessage() for record in caplog.records if "Mars/Olympus" in record.getMessage()]
    assert len(told) == 1, "said once"
    assert "nightly/cron-2" in told[0]
    db.execute("UPDATE flowgen.schedule SET timezone = 'Asia/Tokyo' WHERE name = 'cron-2'")
    eventually(lambda: flowgen_client.count(RunQuery(name="nightly", status="completed")) == 3)


def test_many_runs_at_once_may_make_the_same_schedule(
    app: App, db: Db, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow
    def makes(number: int) -> Flow[int]:
        yield Schedule(makes.call(number), "yearly", cron="0 0 1 1 *")
        return number

    runs = flowgen_client.start_many([makes.call(number) for number in range(50)])
    flowgen_worker(app)
    assert [run.result(timeout=30) for run in runs] == list(range(50))
    assert db.execute("SELECT count(*) FROM flowgen.schedule").fetchone() == (1,)
