"""The look of an idle worker: whatever the agents' statements would find is in it, and nothing else is."""

from __future__ import annotations

from datetime import timedelta

import attrs
import pytest

from flowgen.core.states import Status
from flowgen.postgres import care, claims, queues, schedules, workers
from flowgen.postgres.rows import RunAction, ScheduleChange
from tests.integration.postgres.store import LEASE, Store

OVER = LEASE.total_seconds() + 1
HOUR = timedelta(hours=1)
NOTHING = {
    "lost": False,
    "ready": False,
    "suspect": False,
    "held": False,
    "cascades": False,
    "events": False,
    "former": False,
    "closed": None,
    "next_due_at": None,
    "next_tick_at": None,
}


def seen(store: Store) -> dict[str, object]:
    """What a look finds that is not as if there were nothing."""
    found = attrs.asdict(store.run(care.look()))
    return {name: value for name, value in found.items() if name != "now" and value != NOTHING[name]}


def test_a_look_finds_nothing_where_nothing_is_to_be_done(store: Store) -> None:
    session = store.register()
    assert seen(store) == {}
    run_id = store.start()
    store.update(session, store.claimed(session, run_id), RunAction.COMPLETE)
    assert store.status(run_id) == Status.COMPLETED
    assert seen(store) == {}


def test_a_look_finds_a_dead_session_until_each_of_its_runs_is_released(store: Store) -> None:
    dead = store.register()
    for _ in range(2):
        store.start()
    store.claim(dead)
    assert seen(store) == {}
    store.advance(OVER)
    assert seen(store) == {"lost": True}
    store.run(workers.reap(limit=1))
    assert seen(store)["lost"] is True
    store.run(workers.reap(limit=1))
    store.run(workers.reap())
    assert "lost" not in seen(store)


@pytest.mark.parametrize("change", ["timeline = '0000002A'", "system_identifier = 42", "dead = true"])
def test_a_look_finds_a_session_that_is_over_whatever_its_lease(store: Store, change: str) -> None:
    store.register()
    store.sql(f"UPDATE {{schema}}.worker SET {change}")
    assert seen(store) == {"lost": True}
    store.run(workers.reap())
    assert seen(store) == {}


def test_a_look_finds_what_is_ready_and_what_is_ready_alone(store: Store) -> None:
    store.register()
    store.start()
    assert seen(store) == {"ready": True}
    store.sql("UPDATE {schema}.run SET recoveries = 2")
    assert seen(store) == {"suspect": True}


def test_a_look_finds_held_runs_so_that_they_are_put_back(store: Store) -> None:
    store.register()
    store.start()
    store.run(queues.pause("default"))
    assert store.run(claims.hold()) == 1
    assert seen(store) == {"held": True}
    store.run(queues.resume("default"))
    assert store.run(claims.put_back()) == 1
    assert seen(store) == {"ready": True}


def test_a_look_finds_runs_whose_children_are_to_be_cancelled(store: Store) -> None:
    store.register()
    store.start()
    store.sql("UPDATE {schema}.run SET status = 9, finished_at = {schema}.clock(), cascade = true")
    assert seen(store) == {"cascades": True}
    store.run(claims.cancel_children())
    assert seen(store) == {}
    store.sql("INSERT INTO {schema}.unwanted (run_id) SELECT run_id FROM {schema}.run")
    assert seen(store) == {"cascades": True}
    store.run(claims.cancel_children())
    assert seen(store) == {}


def test_a_look_tells_the_next_time_of_runs_and_schedules(store: Store) -> None:
    session = store.register()
    for hours in (2, 1):
        store.update(session, store.claimed(session, store.start()), RunAction.HANG_UP, delay=hours * HOUR)
    now = store.run(workers.lineage()).now
    for name, hours in (("later", 2), ("first", 1)):
        row = ScheduleChange(target="job", name=name, cron="0 * * * *", next_at=now + hours * HOUR, input="{}")
        store.run(schedules.declare([row]))
    due_at = store.one("SELECT min(due_at) FROM {schema}.run")
    assert seen(store) == {"next_due_at": due_at, "next_tick_at": now + HOUR}
    store.run(schedules.pause("job", "first"))
    assert seen(store) == {"next_due_at": due_at, "next_tick_at": now + 2 * HOUR}
    store.run(schedules.change([ScheduleChange(target="job", name="later", cron=None)]))
    assert seen(store) == {"next_due_at": due_at}


def test_a_look_waits_for_nobody(store: Store) -> None:
    store.register()
    store.start()
    holder = store.connect(autocommit=False)
    store.sql("SELECT 1 FROM {schema}.run, {schema}.worker FOR UPDATE", conn=holder)
    other = store.connect(statement_timeout="2s")
    assert store.run(care.look(), other).ready
