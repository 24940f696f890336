"""Schedules over restarts, replays and rolling deploys, with workers of old and of new code at the same time."""

from __future__ import annotations

import json
from typing import Any

import psycopg

from flowgen import call
from flowgen.client.queries import RunQuery
from flowgen.client.sync import Client
from tests.e2e.processes import Program
from tests.waiting import eventually

Db = psycopg.Connection[Any]

SCHEDULES = "SELECT target, name, cron, timezone, origin, input::text, schedule_id FROM flowgen.schedule ORDER BY 1, 2"

PROGRAM = """
from flowgen import Cron, Schedule, Unschedule

CODE = os.environ["CODE"]

@task(cron=Cron("0 4 * * *" if CODE == "old" else "0 5 * * *", timezone="Europe/Berlin"))
def nightly() -> None: ...

if CODE == "old":
    @task
    def ping(ctx: StepContext, who: str, times: int = 1) -> str:
        note(f"{who} {times} {ctx.trigger.name}")
        return who

@workflow
def arranges(who: str, cron: str) -> Flow[None]:
    yield Schedule(flowgen.call("ping", who=who, times=3), "pings", cron=cron, timezone="Asia/Tokyo")
    yield Step(note, f"arranged {who} by {CODE}")
    yield Step(gate, f"end {who}")

@workflow
def removes() -> Flow[None]:
    yield Unschedule("ping", "pings")
"""


def stored(db: Db) -> dict[tuple[str, str], tuple[Any, ...]]:
    return {(row[0], row[1]): row[2:] for row in db.execute(SCHEDULES).fetchall()}


def declared(db: Db, cron: str) -> None:
    """A worker that was just started has declared its schedules: it is registered a moment before."""
    eventually(lambda: stored(db)["nightly", "cron"][0] == cron)


def test_a_dynamic_schedule_outlives_every_start_of_old_and_new_code(
    program: Program, flowgen_client: Client, db: Db
) -> None:
    """The new code has another cron for its own schedule, and knows nothing of what the dynamic one starts."""
    program.write(PROGRAM)
    old = program.start(CODE="old")
    run = flowgen_client.start(call("arranges", who="you", cron="* * * * * *"))
    program.noted("arranged you by old", timeout=60)
    made = stored(db)
    target = made["ping", "pings"]
    assert target[:3] == ("* * * * * *", "Asia/Tokyo", "dynamic")
    assert json.loads(target[3]) == {"who": "you", "times": 3}
    assert made["nightly", "cron"][:3] == ("0 4 * * *", "Europe/Berlin", "code")
    program.noted("you 3 pings", timeout=60)
    new = program.start(CODE="new")
    declared(db, "0 5 * * *")
    assert stored(db) == made | {("nightly", "cron"): ("0 5 * * *", *made["nightly", "cron"][1:])}
    old.kill()
    # The worker that is left ticks for what it does not know, and replays the handler that made the schedule.
    left = flowgen_client.count(RunQuery(name="ping"))
    eventually(lambda: flowgen_client.count(RunQuery(name="ping")) >= left + 2, timeout=60)
    program.open("end you")
    assert run.result(timeout=60) is None
    again = program.start(CODE="new")
    new.kill()
    assert stored(db)["ping", "pings"] == target
    program.start(CODE="old")
    declared(db, "0 4 * * *")
    eventually(lambda: flowgen_client.count(RunQuery(name="ping", status="pending")) <= 1, timeout=60)
    assert flowgen_client.count(RunQuery(name="ping", status="failed")) == 0
    assert stored(db)["ping", "pings"] == target
    assert stored(db)["nightly", "cron"][:3] == ("0 4 * * *", "Europe/Berlin", "code")
    flowgen_client.start(call("removes")).result(timeout=60)
    assert set(stored(db)) == {("nightly", "cron")}
    again.kill()
    program.start(CODE="new")
    declared(db, "0 5 * * *")
    assert set(stored(db)) == {("nightly", "cron")}, "what was removed stays removed"


def test_no_replay_makes_or_removes_a_schedule_again(program: Program, flowgen_client: Client, db: Db) -> None:
    program.write(PROGRAM)
    first = program.start(CODE="old")
    one = flowgen_client.start(call("arranges", who="one", cron="0 0 1 1 *"))
    program.noted("arranged one by old")
    two = flowgen_client.start(call("arranges", who="two", cron="0 0 2 1 *"))
    program.noted("arranged two by old")
    first.kill()
    second = program.start(CODE="new")
    program.open("end one")
    assert one.result(timeout=60) is None
    assert json.loads(stored(db)["ping", "pings"][3])["who"] == "two", "the replay of the first changed nothing"
    flowgen_client.start(call("removes")).result(timeout=60)
    second.kill()
    program.start(CODE="old")
    program.open("end two")
    assert two.result(timeout=60) is None
    assert set(stored(db)) == {("nightly", "cron")}, "nor did that of the second make it again"
