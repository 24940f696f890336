"""Schedules: each tick starts one run, whoever is killed and however many look."""

from __future__ import annotations

import itertools
import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flowgen.core.states import Status
from flowgen.errors import DatabaseError
from flowgen.postgres import claims, schedules, workers
from flowgen.postgres.offset_clock import offset_clock
from flowgen.postgres.rows import RunAction, ScheduleChange, ScheduleRow
from tests.integration.postgres.store import Store, change

MINUTE = timedelta(minutes=1)


def every_minute(row: ScheduleRow, now: datetime) -> datetime:
    return row.next_at + MINUTE * ((now - row.next_at) // MINUTE + 1)


def declared(store: Store, **parts: Any) -> datetime:
    first = store.run(workers.lineage()).now + MINUTE
    given = {"target": "job", "name": "tick", "cron": "* * * * *", "next_at": first, "input": '{"n": 1e22}'}
    store.run(schedules.declare([ScheduleChange(**(given | parts))]))
    return first


def test_a_tick_starts_one_run_and_moves_the_time(store: Store) -> None:
    first = declared(store, priority=3, queue="crons")
    assert store.run(schedules.tick(every_minute)) == schedules.Ticked(None, (), 0)
    store.advance(61)
    ticked = store.run(schedules.tick(every_minute))
    (schedule,) = store.run(schedules.all_schedules())
    assert (schedule.last_at, schedule.next_at) == (first, first + MINUTE)
    assert ticked.started == (schedules.tick_run_id(schedule.schedule_id, first),)
    row = store.row(ticked.started[0], "name", "kind", "queue", "priority", "input::text", "status", "trigger::text")
    assert row[:6] == ("job", "task", "crons", 3, '{"n": 1e22}', Status.READY)
    assert json.loads(row[6]) == {
        "kind": "cron",
        "name": "tick",
        "scheduled_at": first.astimezone(UTC).isoformat(),
    }
    assert store.run(schedules.tick(every_minute)).moved == 0


def test_workers_that_tick_at_once_start_each_run_once(store: Store) -> None:
    for number in range(20):
        declared(store, name=f"s{number}")
    store.advance(61)
    results: list[schedules.Ticked] = []
    barrier = threading.Barrier(4)

    def tick() -> None:
        conn = store.connect()
        barrier.wait()
        for _ in range(3):
            results.append(store.run(schedules.tick(every_minute, limit=7), conn))

    threads = [threading.Thread(target=tick) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(result.moved for result in results) == 20
    assert len({run_id for result in results for run_id in result.started}) == 20
    assert store.one("SELECT count(*) FROM {schema}.run") == 20


@pytest.mark.fault("F12")
def test_what_a_process_that_is_stopped_in_a_tick_holds_is_free_after_two_seconds(store: Store) -> None:
    declared(store)
    store.advance(61)
    stopped, other = store.connect(), store.connect()
    (schedule,) = store.run(schedules.all_schedules())
    given = ScheduleChange(target="job", name="tick", cron="* * * * *", next_at=schedule.next_at)

    def stands_still(row: ScheduleRow, now: datetime) -> datetime:
        store.run(schedules.declare([given]), other)  # a worker that starts meanwhile
        return every_minute(row, now)

    with pytest.raises(DatabaseError) as ended:
        store.run(schedules.tick(stands_still), stopped)
    assert ended.value.transient
    assert store.run(schedules.tick(every_minute), other).moved == 1


def test_a_tick_that_dies_before_its_commit_leaves_nothing_and_comes_again(store: Store) -> None:
    declared(store)
    store.advance(61)

    def dies(row: ScheduleRow, now: datetime) -> datetime:
        raise RuntimeError("no next time")

    with pytest.raises(RuntimeError):
        store.run(schedules.tick(dies))
    assert store.sql("SELECT 1 FROM {schema}.run") == []
    conn = store.connect()
    op = schedules.tick(every_minute)
    with pytest.raises(RuntimeError):
        store.run(killed_before_commit(op), conn)
    assert len(store.run(schedules.tick(every_minute)).started) == 1


def killed_before_commit(op: Any) -> Any:
    """The operation, with the death of the process in the place of its COMMIT."""
    request = next(op)
    while type(request).__name__ != "Commit":
        request = op.send((yield request))
    raise RuntimeError("killed")


@pytest.mark.parametrize(
    ("overlap", "started", "moved", "first"),
    [
        ("allow", 1, 1, Status.READY),
        ("skip", 0, 1, Status.READY),
        ("queue", 0, 0, Status.READY),
        ("cancel_previous", 1, 1, Status.CANCELLED),
    ],
)
def test_a_tick_meets_the_run_before_it_as_its_policy_says(
    store: Store, overlap: str, started: int, moved: int, first: Status
) -> None:
    declared(store, overlap=overlap)
    store.advance(61)
    (run_id,) = store.run(schedules.tick(every_minute)).started
    store.advance(121)
    ticked = store.run(schedules.tick(every_minute))
    assert (len(ticked.started), ticked.moved) == (started, moved)
    assert store.status(run_id) == first
    session = store.register()
    runs = store.run(claims.claim(session, 9)).runs
    store.flush(session, updates=[change(item, RunAction.COMPLETE, output="1") for item in runs])
    store.advance(181)
    assert len(store.run(schedules.tick(every_minute)).started) == 1


def test_code_changes_only_the_schedules_that_it_declares(store: Store) -> None:
    first = declared(store, name="by code")
    dynamic = ScheduleChange(target="job", name="by a run", cron="0 0 * * *", next_at=first)
    store.run(schedules.change([dynamic]))
    store.run(schedules.declare([ScheduleChange(target="job", name="other code", cron="* * * * *", next_at=first)]))
    found = {row.name: row.origin for row in store.run(schedules.all_schedules())}
    assert found == {"by code": "code", "by a run": "dynamic", "other code": "code"}


def test_an_edit_keeps_the_next_time_unless_the_expression_changed(store: Store) -> None:
    first = declared(store)
    declared(store, next_at=first + MINUTE, input='{"n": 2}')
    (row,) = store.run(schedules.all_schedules())
    assert (row.input, row.next_at) == ('{"n": 2}', first)
    declared(store, next_at=first + 5 * MINUTE, cron="*/5 * * * *")
    assert store.run(schedules.all_schedules())[0].next_at == first + 5 * MINUTE


def test_a_removed_schedule_ticks_no_more_and_one_that_comes_back_repeats_no_tick(store: Store) -> None:
    first = declared(store)
    store.advance(61)
    assert len(store.run(schedules.tick(every_minute)).started) == 1
    store.run(schedules.change([ScheduleChange(target="job", name="tick", cron=None)]))
    store.advance(200)
    assert store.run(schedules.tick(every_minute)).moved == 0
    declared(store, next_at=first)
    ticked = store.run(schedules.tick(every_minute))
    assert (ticked.moved, ticked.started) == (1, ())


def test_a_paused_schedule_waits_for_its_resume(store: Store) -> None:
    declared(store)
    assert store.run(schedules.pause("job", "tick"))
    assert not store.run(schedules.pause("job", "nothing"))
    store.advance(61)
    assert store.run(schedules.tick(every_minute)).moved == 0
    assert store.run(schedules.resume("job", "tick"))
    assert store.run(schedules.tick(every_minute)).moved == 1


@pytest.mark.fault("F65")
def test_a_schedule_that_is_edited_or_removed_while_it_ticks_ticks_as_one_of_both(store: Store) -> None:
    """Two tick while one edits and removes, and the minutes fly; each edit writes its number into the input."""
    stop = threading.Event()
    edits: list[tuple[int, str]] = []
    wrong: list[str] = []

    def tick() -> None:
        conn = store.connect()
        while not stop.is_set():
            store.run(schedules.tick(every_minute), conn)

    def fly() -> None:
        conn = store.connect()
        for minute in itertools.count(1):
            if stop.is_set():
                return
            offset_clock(conn, store.schema, 61.0 * minute)

    def edit() -> None:
        conn = store.connect()
        for number in range(300):
            now = store.run(workers.lineage(), conn).now
            given = ScheduleChange(
                target="job", name="tick", cron="* * * * *" if number % 2 else "*/1 * * * *",
                next_at=now, input=json.dumps({"n": number}),
            )  # fmt: skip
            store.run(schedules.declare([given]), conn)
            edits.append((number, "declared"))
            if number % 3 == 0:
                store.run(schedules.change([ScheduleChange(target="job", name="tick", cron=None)]), conn)
                before = store.sql("SELECT count(*) FROM flowgen.run", conn=conn)[0][0]
                for _ in range(3):
                    store.run(schedules.tick(every_minute), conn)
                after = store.sql("SELECT count(*) FROM flowgen.run", conn=conn)[0][0]
                if before != after:
                    wrong.append(f"{after - before} ticks after the removal {number}")

    tickers = [threading.Thread(target=each) for each in (tick, tick, fly)]
    editor = threading.Thread(target=edit)
    for thread in [*tickers, editor]:
        thread.start()
    editor.join()
    stop.set()
    for thread in tickers:
        thread.join()
    assert wrong == []
    rows = store.sql(
        "SELECT (input ->> 'n')::integer, trigger ->> 'scheduled_at', created_at FROM flowgen.run ORDER BY created_at"
    )
    numbers = [row[0] for row in rows]
    assert len(edits) == 300
    assert len(rows) > 50
    assert numbers == sorted(numbers), "a tick after an edit took what was before it"
    assert len({row[1] for row in rows}) == len(rows), "one time ticked twice"


def test_the_last_of_several_changes_of_one_schedule_holds(store: Store) -> None:
    """Runs that make or remove the same schedule may be committed together."""
    first = store.run(workers.lineage()).now + MINUTE
    make = ScheduleChange(target="job", name="tick", cron="* * * * *", next_at=first, input="1")
    other = ScheduleChange(target="job", name="tick", cron="* * * * *", next_at=first, input="2")
    remove = ScheduleChange(target="job", name="tick", cron=None)
    for changes, left in (
        ([make, other], ["2"]),
        ([other, make], ["1"]),
        ([make, remove], []),
        ([remove, other], ["2"]),
        ([remove, make, remove, make, remove], []),
    ):
        store.run(schedules.change(changes))
        assert [row.input for row in store.run(schedules.all_schedules())] == left
