"""What a flush does to a run's own row, to its history, its children and whoever waits for it."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from flowgen.core.entries import Entry, EntryKind
from flowgen.core.states import Status
from flowgen.postgres import entries, observe
from flowgen.postgres.rows import ClaimedRun, FlushBatch, RunAction, ScheduleChange, Session
from tests.integration.postgres.store import Store, change, child_of, ending, outcome
from tests.waiting import eventually

HOUR = timedelta(hours=1)


def begun(store: Store) -> tuple[Session, ClaimedRun]:
    session = store.register()
    return session, store.claimed(session, store.start())


def test_entries_are_kept_exactly_and_in_order(store: Store) -> None:
    session, item = begun(store)
    value = '{"z": 1e22, "a": -0.0, "nul": "\\u0000", "big": 123456789012345678901234567890}'
    written = [
        outcome(0, "charge", value, fingerprint="f1", named=True),
        Entry(1, EntryKind.ATTEMPT, "charge", attempt=2, value='{"type":"X"}', due_at=datetime(2031, 1, 2, tzinfo=UTC)),
        Entry(5, EntryKind.STARTED, "é\n#2"),
    ]
    result = store.flush(session, entries=[(item.run_id, entry) for entry in written])
    assert not result.fenced
    assert list(result.due) == [(item.run_id, 1)]
    read = store.run(entries.page(item.run_id, base=0, prologue=0))
    assert [entry.recorded_at for entry in read] == [result.now] * 3
    assert [(e.index, e.kind, e.key, e.fingerprint, e.status, e.attempt, e.value, e.due_at, e.named) for e in read] == [
        (e.index, e.kind, e.key, e.fingerprint, e.status, e.attempt, e.value, e.due_at, e.named) for e in written
    ]


def test_a_timer_is_due_by_the_time_of_the_database(store: Store) -> None:
    session, item = begun(store)
    result = store.flush(session, entries=[(item.run_id, Entry(0, EntryKind.ARMED, "sleep", delay=HOUR))])
    assert result.due == {(item.run_id, 0): result.now + HOUR}


def test_a_completed_run_keeps_its_output_as_it_was_written(store: Store) -> None:
    session, item = begun(store)
    result = store.update(session, item, RunAction.COMPLETE, output='{"b": 1e22,  "a": "\\u0000"}')
    assert result.landed == {item.run_id: Status.COMPLETED}
    row = store.row(item.run_id, "status", "owner", "output::text", "finished_at")
    assert row == (Status.COMPLETED, None, '{"b": 1e22,  "a": "\\u0000"}', result.now)
    assert store.run(observe.get([item.run_id]))[item.run_id].due_at is None


@pytest.mark.parametrize(
    ("action", "parts", "status"),
    [
        (RunAction.CHECKPOINT, {"base": 4, "prologue": 2}, Status.RUNNING),
        (RunAction.SET, {"progress": '{"done": 1}', "lasts": HOUR}, Status.RUNNING),
        (RunAction.HANG_UP, {}, Status.WAITING),
        (RunAction.HANG_UP, {"delay": HOUR}, Status.WAITING),
        (RunAction.HANG_UP, {"due_at": datetime(2001, 1, 1, tzinfo=UTC)}, Status.READY),
        (RunAction.RELEASE, {}, Status.READY),
        (RunAction.RETRY, {"delay": HOUR, "error": "{}"}, Status.DELAYED),
        (RunAction.RETRY, {"delay": timedelta(0)}, Status.READY),
        (RunAction.PAUSE, {}, Status.PAUSED),
        (RunAction.PARK, {"error": '{"reason": "diverged"}'}, Status.PARKED),
        (RunAction.FAIL, {"error": "{}"}, Status.FAILED),
        (RunAction.CANCEL, {"error": '{"reason": null}'}, Status.CANCELLED),
        (RunAction.CONTINUE, {"base": 9, "input": '{"n": 2}'}, Status.READY),
    ],
)
def test_each_action_leaves_the_run_where_it_says(
    store: Store, action: RunAction, parts: dict[str, object], status: Status
) -> None:
    session, item = begun(store)
    result = store.update(session, item, action, **parts)
    assert result.landed == {item.run_id: status}
    assert store.row(item.run_id, "owner") == (session.id if status is Status.RUNNING else None)
    attempt, base, prologue, text = store.row(item.run_id, "attempt", "base", "prologue", "input::text")
    assert attempt == (2 if action is RunAction.RETRY else 1)
    continued = action is RunAction.CONTINUE
    assert base == (None if continued else parts.get("base"))
    assert prologue == parts.get("prologue")
    assert store.row(item.run_id, "floor") == (9 if continued else None)
    assert text == parts.get("input", "{}")
    assert store.row(item.run_id, "first_input::text") == ("{}" if continued else None)


def test_the_input_of_the_first_pass_is_kept_when_a_run_goes_on_as_new(store: Store) -> None:
    session = store.register()
    given = f'{{"n":  0, "rest": "{random.randbytes(20_000).hex()}"}}'
    run_id = store.start(input=given)
    for n in range(3):
        assert store.row(run_id, "first_input::text") == (given if n else None)
        item = store.claimed(session, run_id)
        store.update(session, item, RunAction.SET, progress="1")
        store.update(session, item, RunAction.CONTINUE, base=0, input=f'{{"n":  {n + 1}}}')
    item = store.claimed(session, run_id)
    assert item.input == '{"n":  3}'
    store.update(session, item, RunAction.COMPLETE)
    assert store.row(run_id, "first_input::text", "input::text") == (given, '{"n":  3}')


@pytest.mark.parametrize(
    ("request_", "action", "status", "left"),
    [
        (1, RunAction.HANG_UP, Status.READY, 1),
        (2, RunAction.HANG_UP, Status.READY, 2),
        (1, RunAction.PAUSE, Status.READY, 1),
        (2, RunAction.PAUSE, Status.PAUSED, None),
        (1, RunAction.RETRY, Status.READY, 1),
        (1, RunAction.COMPLETE, Status.COMPLETED, None),
    ],
)
def test_a_pending_request_is_not_slept_through(
    store: Store, request_: int, action: RunAction, status: Status, left: int | None
) -> None:
    session, item = begun(store)
    store.sql("UPDATE {schema}.run SET request = %s WHERE run_id = %s", request_, item.run_id)
    result = store.update(session, item, action, delay=HOUR, output="1")
    assert result.landed == {item.run_id: status}
    assert store.row(item.run_id, "request") == left


def test_a_wait_ends_with_the_deadline_of_the_run(store: Store) -> None:
    session, item = begun(store)
    set_ = store.update(session, item, RunAction.SET, lasts=HOUR)
    store.update(session, item, RunAction.HANG_UP, delay=5 * HOUR)
    assert store.row(item.run_id, "due_at") == set_.now + HOUR


def test_a_child_tells_its_parent_how_it_ended(store: Store) -> None:
    session, parent = begun(store)
    children = [child_of(parent, key=key) for key in "abc"]
    store.flush(session, children=children, updates=[change(parent, RunAction.HANG_UP, wake_at_mail=3)])
    a, b, c = sorted(store.claim(session).runs, key=lambda item: str(item.parent_key))
    store.flush(session, updates=[ending(a, output='{"x":  1}')])
    assert store.status(parent.run_id) == Status.WAITING
    store.flush(session, updates=[ending(b, RunAction.CANCEL), ending(c, error='{"type": "E"}', action=RunAction.FAIL)])
    assert store.row(parent.run_id, "status", "mail") == (Status.READY, 3)
    assert sorted(store.inbox(parent.run_id)) == [
        ("a", f'{{"status":"completed","output":{{"x":  1}},"run_id":"{a.run_id}"}}'),
        ("b", f'{{"status":"cancelled","error":{{"type": "X", "message": "x"}},"run_id":"{b.run_id}"}}'),
        ("c", f'{{"status":"failed","error":{{"type": "E"}},"run_id":"{c.run_id}"}}'),
    ]
    again = store.claimed(session, parent.run_id)
    assert [message.key for message in again.inbox][0] == "a"
    assert {message.key for message in again.inbox} == {*"abc"}
    assert again.mail == 3


def test_a_failure_wakes_a_parent_that_waits_for_more(store: Store) -> None:
    session, parent = begun(store)
    store.flush(session, children=[child_of(parent)], updates=[change(parent, RunAction.HANG_UP, wake_at_mail=1000)])
    (child,) = store.claim(session).runs
    store.flush(session, updates=[ending(child, RunAction.FAIL, urgent=True)])
    assert store.status(parent.run_id) == Status.READY


def test_a_consumed_message_is_gone_and_the_end_empties_the_inbox(store: Store) -> None:
    session, parent = begun(store)
    store.flush(session, children=[child_of(parent, key=key) for key in "ab"])
    store.flush(session, updates=[ending(item) for item in store.claim(session).runs])
    first = store.one("SELECT min(id) FROM {schema}.inbox")
    store.flush(session, entries=[(parent.run_id, outcome(0))], consumed=[(parent.run_id, first)])
    assert len(store.inbox(parent.run_id)) == 1
    store.update(session, parent, RunAction.COMPLETE, output="1")
    assert store.inbox(parent.run_id) == []


def test_a_message_to_a_run_that_has_ended_is_not_kept(store: Store) -> None:
    session, parent = begun(store)
    store.flush(session, children=[child_of(parent)])
    (child,) = store.claim(session).runs
    store.flush(session, updates=[change(parent, RunAction.COMPLETE, output="1"), ending(child)])
    assert store.status(child.run_id) == Status.COMPLETED
    assert store.inbox(parent.run_id) == []


def test_a_child_whose_parent_is_gone_still_ends(store: Store) -> None:
    session, parent = begun(store)
    store.flush(session, children=[child_of(parent)])
    (child,) = store.claim(session).runs
    store.sql("DELETE FROM {schema}.run WHERE run_id = %s", parent.run_id)
    assert store.flush(session, updates=[ending(child)]).landed == {child.run_id: Status.COMPLETED}


def test_children_are_born_where_they_can_go_on(store: Store) -> None:
    session, parent = begun(store)
    store.sql("INSERT INTO {schema}.queue VALUES ('stopped', true, {schema}.clock())")
    children = {
        Status.READY: child_of(parent, tags=("a", "b"), trigger='{"kind":"invoke"}', input='{"x": 1}'),
        Status.DELAYED: child_of(parent, delay=HOUR),
        Status.HELD: child_of(parent, "unknown"),
        Status.RUNNING: child_of(parent, owned=True),
    }
    paused = child_of(parent, queue="stopped", owned=True)
    result = store.flush(session, children=[*children.values(), paused], entries=[(parent.run_id, outcome(0))])
    assert result.adopted == {children[Status.RUNNING].run_id}
    assert {status: store.status(child.run_id) for status, child in children.items()} == {s: s for s in children}
    assert store.status(paused.run_id) == Status.HELD
    row = store.row(children[Status.READY].run_id, "tags", "trigger::text", "input::text", "parent_id", "depth")
    assert row == (["a", "b"], '{"kind":"invoke"}', '{"x": 1}', parent.run_id, 1)
    adopted = children[Status.RUNNING].run_id
    assert store.row(adopted, "owner", "claim") == (session.id, 1)
    again = store.flush(session, children=list(children.values()))
    assert again.adopted == frozenset()
    assert store.one("SELECT count(*) FROM {schema}.run WHERE parent_id = %s", parent.run_id) == 5


def test_a_schedule_is_made_and_removed_in_the_commit_of_its_outcome(store: Store) -> None:
    session, item = begun(store)
    made = ScheduleChange(target="job", name="daily", cron="0 0 * * *", next_at=datetime(2040, 1, 1, tzinfo=UTC))
    store.flush(session, schedules=[(item.run_id, made)], entries=[(item.run_id, outcome(0))])
    assert store.sql("SELECT target, name, origin FROM {schema}.schedule") == [("job", "daily", "dynamic")]
    gone = ScheduleChange(target="job", name="daily", cron=None)
    store.flush(session, schedules=[(item.run_id, gone)], entries=[(item.run_id, outcome(1))])
    assert store.sql("SELECT 1 FROM {schema}.schedule") == []


def test_a_run_that_is_not_ours_at_this_claim_is_left_alone_with_its_entries(store: Store) -> None:
    session, item = begun(store)
    other = store.claimed(session, store.start())
    stale = store.claimed(session, store.start())
    store.update(session, stale, RunAction.RELEASE)
    store.claim(session)
    result = store.flush(
        session,
        entries=[(item.run_id, outcome(0)), (stale.run_id, outcome(0))],
        updates=[change(item, RunAction.COMPLETE, output="1"), change(stale, RunAction.COMPLETE, output="1")],
        children=[child_of(stale), child_of(other)],
    )
    assert result.landed == {item.run_id: Status.COMPLETED}
    assert result.skipped == frozenset()
    assert store.status(stale.run_id) == Status.RUNNING
    assert store.indexes(stale.run_id) == []
    assert store.sql("SELECT parent_id FROM {schema}.run WHERE parent_id IS NOT NULL") == [(other.run_id,)]


def test_a_locked_row_delays_an_end_that_touches_no_other_run(store: Store) -> None:
    session, item = begun(store)
    other = store.claimed(session, store.start())
    holder = store.connect(autocommit=False)
    store.sql("UPDATE {schema}.run SET mail = mail + 1 WHERE run_id = %s", other.run_id, conn=holder)
    ends = [change(each, RunAction.COMPLETE, output="1") for each in (item, other)]
    result = store.flush(session, store.connect(statement_timeout="1s"), updates=ends)
    assert (result.skipped, set(result.landed)) == ({other.run_id}, {item.run_id})
    holder.commit()
    assert set(store.flush(session, updates=ends[1:]).landed) == {other.run_id}
    assert store.row(other.run_id, "mail") == 1


LATE = """
CREATE FUNCTION public.until_somebody_waits() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WHILE NOT EXISTS (SELECT 1 FROM {schema}.waiter) LOOP PERFORM pg_sleep(0.01); END LOOP;
    RETURN NEW;
END $$;
CREATE TRIGGER late BEFORE UPDATE ON {schema}.run FOR EACH ROW
WHEN (NEW.status = 7) EXECUTE FUNCTION public.until_somebody_waits();
"""


def test_who_begins_to_wait_while_a_run_ends_is_told(store: Store) -> None:
    session, waiting = begun(store)
    item = store.claimed(session, store.start())
    store.sql(LATE)
    conn = store.connect()
    end = change(item, RunAction.COMPLETE, output="1")
    flush = threading.Thread(target=lambda: store.flush(session, conn, updates=[end]))
    flush.start()
    late = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    eventually(lambda: store.sql(late))
    store.sql("INSERT INTO {schema}.waiter VALUES (%s, %s, 'k')", item.run_id, waiting.run_id)
    flush.join(10)
    assert store.status(item.run_id) == Status.COMPLETED
    assert [key for key, _ in store.inbox(waiting.run_id)] == ["k"]


def test_halves_keep_what_is_of_one_run_together(store: Store) -> None:
    session = store.register()
    items = [store.claimed(session, store.start()) for _ in range(5)]
    batch = FlushBatch(
        entries=[(item.run_id, outcome(index)) for index in range(2) for item in items],
        updates=[change(item, RunAction.RELEASE) for item in items],
        children=[child_of(items[0]), child_of(items[4])],
    )
    halves = entries.halve(batch)
    assert halves is not None
    runs: list[set[UUID]] = []
    for half in halves:
        runs.append({run_id for run_id, _ in half.entries})
        assert {update.run_id for update in half.updates} == runs[-1]
        assert {child.parent_id for child in half.children} < runs[-1]
    assert not runs[0] & runs[1]
    assert entries.halve(FlushBatch(entries=[(uuid4(), outcome(0))])) is None
