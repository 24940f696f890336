"""Now, Uuid, Random, Scope and sleeps of months: recorded once, the same on every replay, whoever replays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

import flowgen
from flowgen import App, Flow, Gather, Now, Random, Scope, Sleep, Uuid
from flowgen.client.sync import Client
from flowgen.testing.clock import Clock
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program
from tests.waiting import eventually

Db = psycopg.Connection[Any]


def test_facts_are_the_same_after_a_killed_worker_and_of_the_databases_clock(
    program: Program, flowgen_client: Client, flowgen_clock: Clock
) -> None:
    program.write(
        """
from flowgen import Now, Random, Scope, Uuid

def facts() -> Flow[list]:
    return [str((yield from Now())), str((yield from Uuid())), (yield from Random())]

def step(found):
    note(found)
    gate("go")

@workflow
def flow() -> Flow[list]:
    found = yield from facts()
    scoped = yield from Scope("again", facts())
    both = yield from Gather(facts(), facts())
    every = [found, scoped, *both]
    yield Step(step, every)
    return every
""",
        settings="Settings(lease=2, poll=0.1, cache=0)",
    )
    flowgen_clock.advance("100d")
    process = program.start()
    run = flowgen_client.start(flowgen.call("flow"))
    for times in (1, 2):
        eventually(lambda times=times: len(program.notes()) == times, 20)
        process.kill()
        process = program.start()
    program.open("go")
    found = run.result(timeout=20)
    assert program.notes() == [str(found)] * 3
    assert len({each[1] for each in found}) == len({each[2] for each in found}) == 4
    assert {UUID(each[1]).version for each in found} == {4}
    assert all(0 <= each[2] < 1 for each in found)
    ahead = [datetime.fromisoformat(each[0]) - datetime.now(UTC) for each in found]
    assert all(timedelta(days=99) < each < timedelta(days=101) for each in ahead), "not the worker's clock"
    paths = [item.path for item in flowgen_client.history(run.id) if item.kind == "outcome"]
    names = ("now", "uuid", "random")
    prefixes = ("", "again/", "gather/0/", "gather/1/")
    assert sorted(paths) == sorted([*(f"{prefix}{name}" for prefix in prefixes for name in names), "step"])


def test_a_sleep_of_months_is_a_row_and_ends_at_its_time(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_clock: Clock, db: Db
) -> None:
    woke: list[str] = []

    @app.workflow
    def lasts(days: int) -> Flow[str]:
        yield Sleep(days=days)
        woke.append(f"after {days} days")
        return "awake"

    @app.workflow
    def until(when: datetime) -> Flow[str]:
        yield from Gather(Sleep(until=when), Scope("past", Sleep(until=datetime(2001, 1, 1, tzinfo=UTC))))
        woke.append("then")
        return "awake"

    worker = flowgen_worker(app)
    then = datetime.now(UTC) + timedelta(days=200)
    runs = [flowgen_client.start(lasts, 90), flowgen_client.start(until, then), flowgen_client.start(lasts, 400)]
    eventually(lambda: all(run.refresh().status == "waiting" for run in runs), 20)
    assert runs[1].refresh().due_at == then
    worker.stop()
    assert db.execute("select count(*) from flowgen.worker where not dead").fetchone() == (0,)
    flowgen_clock.advance("89d")
    flowgen_worker(app)
    flowgen_clock.advance("1d1h")
    assert runs[0].result(timeout=20) == "awake"
    assert woke == ["after 90 days"]
    flowgen_clock.advance("111d")
    assert runs[1].result(timeout=20) == "awake"
    assert woke == ["after 90 days", "then"]
    assert runs[2].refresh().status == "waiting"


def test_what_a_handler_is_sent_is_what_is_recorded(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    @app.workflow
    def flow() -> Flow[list[Any]]:
        first = yield from Gather(Now(), Uuid(), Random())
        yield Sleep(0.01)
        second = yield from Gather(Now(), Uuid(), Random())
        return [[str(each) for each in found] for found in (first, second)]

    flowgen_worker(app, cache=0)
    run = flowgen_client.start(flow)
    first, second = run.result(timeout=20)
    assert all(one != two for one, two in zip(first, second, strict=True))
    recorded = {item.path: item.value for item in flowgen_client.history(run.id) if item.kind == "outcome"}
    assert [str(recorded[f"gather/{n}/{name}"]) for n, name in ((1, "uuid"), (2, "random"))] == first[1:]
    assert [str(recorded[f"gather#2/{n}/{name}"]) for n, name in ((1, "uuid"), (2, "random"))] == second[1:]
