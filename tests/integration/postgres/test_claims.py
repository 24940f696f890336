"""Who gets which run, with what, and what makes runs ready."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from flowgen.core.decision import UNWANTED
from flowgen.core.entries import Entry, EntryKind
from flowgen.core.states import Status
from flowgen.errors import DatabaseError
from flowgen.postgres import claims, entries, inbox, queues
from flowgen.postgres.database import Statement
from flowgen.postgres.effects import Unwanted
from flowgen.postgres.rows import Have, RunAction
from tests.integration.postgres.store import Store, change, child_of, ending, outcome

HOUR = timedelta(hours=1)


def test_higher_priority_goes_first_then_the_older_one(store: Store) -> None:
    session = store.register()
    wanted = [store.start(priority=priority) for priority in (1, 5, 1, 5)]
    got = [item.run_id for item in store.claim(session).runs]
    assert got == [wanted[1], wanted[3], wanted[0], wanted[2]]


def test_a_claim_takes_no_more_than_it_was_asked_for(store: Store) -> None:
    session = store.register()
    for _ in range(5):
        store.start()
    assert len(store.claim(session, 3).runs) == 3
    assert len(store.claim(session, 3).runs) == 2


def test_a_look_goes_on_where_the_last_one_ended(store: Store) -> None:
    session = store.register()
    runs = []
    for _ in range(4):
        runs.append(store.start())
        store.advance(1)
    first = store.claim(session, 2)
    assert [item.run_id for item in first.runs] == runs[:2]
    assert first.since == store.row(runs[1], "due_at")
    store.sql("UPDATE {schema}.run SET due_at = due_at - interval '1 h' WHERE run_id = %s", runs[3])
    second = store.claim(session, 1, since=first.since)
    assert [item.run_id for item in second.runs] == [runs[2]]
    assert store.claim(session, since=second.since).runs == []
    assert [item.run_id for item in store.claim(session).runs] == [runs[3]]


def test_a_look_that_found_all_there_is_leaves_room_for_starts_that_commit_late(store: Store) -> None:
    found = store.claim(store.register())
    assert found.since is not None
    assert found.now - found.since == timedelta(seconds=10)


@pytest.mark.parametrize(
    ("starts", "limit"),
    [
        pytest.param([{"priority": 5}, {"priority": 1}, {}], 2, id="priorities"),
        pytest.param([{"queue": "a"}, {"queue": "b"}, {"queue": "c"}], 1, id="queues"),
    ],
)
def test_a_look_at_several_priorities_or_queues_does_not_say_where_it_ended(
    store: Store, starts: list[dict[str, Any]], limit: int
) -> None:
    session = store.register()
    for start in starts:
        store.start(**start)
    assert store.claim(session, limit).since is None


def test_only_definitions_that_the_worker_knows_are_claimed(store: Store) -> None:
    known, unknown = store.start("flow"), store.start("other")
    session = store.register("flow")
    assert [item.run_id for item in store.claim(session).runs] == [known]
    assert store.status(unknown) == Status.READY


def test_only_queues_that_the_worker_serves_are_claimed(store: Store) -> None:
    runs = {queue: store.start(queue=queue) for queue in ("a", "b", "c")}
    of_two = store.register(queues=["a", "b"])
    assert [item.run_id for item in store.claim(of_two, queues=["b"]).runs] == [runs["b"]]
    assert [item.run_id for item in store.claim(of_two).runs] == [runs["a"]]
    assert [item.run_id for item in store.claim(store.register()).runs] == [runs["c"]]


def test_busy_is_told_apart_from_empty(store: Store) -> None:
    session = store.register()
    assert not store.claim(session).busy
    run_id = store.start()
    holder = store.connect(autocommit=False)
    store.run(claims.claim(store.register(), 0), holder)
    store.start()
    assert not store.claim(session, 0).busy
    store.run(claims.claim(store.register(), 1), store.connect(autocommit=False))  # takes the lock, and keeps it
    claimed = store.claim(session)
    assert (claimed.busy, claimed.runs) == (True, [])
    assert store.status(run_id) == Status.READY


def test_a_claimed_run_comes_with_all_that_it_needs(store: Store) -> None:
    session = store.register()
    parent = store.claimed(session, store.start())
    child = child_of(
        parent,
        id="order-1",
        input='{"x":  1e22}',
        tags=("a",),
        correlation_id="c",
        parent_correlation_id="p",
        deadline=HOUR,
        trigger='{"kind":"invoke"}',
        priority=3,
    )
    made = store.flush(session, children=[child])
    (item,) = store.claim(session).runs
    assert (item.run_id, item.id, item.name, item.kind, item.queue) == (
        child.run_id,
        "order-1",
        "job",
        "task",
        "default",
    )
    assert (item.input, item.trigger, item.priority) == ('{"x":  1e22}', '{"kind":"invoke"}', 3)
    assert (item.correlation_id, item.parent_correlation_id) == ("c", "p")
    assert (item.parent_id, item.parent_key, item.root_id, item.depth) == (parent.run_id, "child", parent.run_id, 1)
    assert (item.created_at, item.deadline) == (made.now, made.now + HOUR)
    assert (item.claim, item.attempt, item.recoveries, item.mail, item.request) == (1, 1, 0, 0, 0)
    assert (item.base, item.prologue, item.next_index) == (0, 0, 0)
    assert (item.entries, item.partial, item.inbox) == ((), False, ())


def indexes(items: Any) -> list[int]:
    return [entry.index for entry in items]


def test_an_earlier_segment_comes_without_what_only_it_could_ask_for(store: Store) -> None:
    session = store.register()
    item = store.claimed(session, store.start())
    written = [outcome(0), outcome(1), outcome(2, named=True), Entry(3, EntryKind.CHECKPOINT, "cp"), outcome(4)]
    store.flush(session, entries=[(item.run_id, entry) for entry in written])
    store.update(session, item, RunAction.CHECKPOINT, base=3, prologue=1)
    store.update(session, item, RunAction.RELEASE)
    again = store.claimed(session, item.run_id)
    assert indexes(again.entries) == [0, 2, 3, 4]
    assert (again.base, again.prologue, again.next_index) == (3, 1, 5)
    assert indexes(store.run(entries.page(item.run_id, base=3, prologue=1, limit=2))) == [0, 2]
    assert indexes(store.run(entries.page(item.run_id, base=3, prologue=1, after=2))) == [3, 4]


def test_a_cache_is_given_only_what_is_newer_and_only_when_it_is_of_the_last_claim(store: Store) -> None:
    session = store.register()
    item = store.claimed(session, store.start())
    store.flush(session, entries=[(item.run_id, outcome(index)) for index in range(3)])
    store.update(session, item, RunAction.RELEASE)
    (second,) = store.claim(session, have=[Have(item.run_id, 1, 1)]).runs
    assert (second.claim, second.partial, indexes(second.entries)) == (2, True, [2])
    store.update(session, second, RunAction.RELEASE)
    (third,) = store.claim(session, have=[Have(item.run_id, 1, 1)]).runs
    assert (third.claim, third.partial, indexes(third.entries)) == (3, False, [0, 1, 2])
    store.update(session, third, RunAction.RELEASE)
    (fourth,) = store.claim(session, have=[Have(item.run_id, 3, 2)]).runs
    assert (fourth.partial, indexes(fourth.entries), fourth.next_index) == (True, [], 3)


def test_pages_hold_at_least_one_entry_and_end(store: Store) -> None:
    session = store.register()
    item = store.claimed(session, store.start())
    store.flush(session, entries=[(item.run_id, outcome(index, value=f'"{"x" * 5000}"')) for index in range(5)])
    seen: list[int] = []
    while page := store.run(
        entries.page(item.run_id, base=0, prologue=0, after=seen[-1] if seen else -1, max_bytes=12_000)
    ):
        assert len(page) <= 2
        seen += indexes(page)
    assert seen == [0, 1, 2, 3, 4]
    assert len(store.run(entries.page(item.run_id, base=0, prologue=0, max_bytes=1))) == 1


def test_a_claim_that_is_too_large_is_repeated_by_halves(store: Store) -> None:
    session = store.register()
    op = claims.claim(session, 8)
    sent = [next(op)]
    for _ in range(4):
        sent.append(op.throw(DatabaseError("out of memory", sqlstate="53200")))
    assert [(s.params["limit"], s.params["bare"]) for s in sent if isinstance(s, Statement)] == [
        (8, False),
        (4, False),
        (2, False),
        (1, False),
        (1, True),
    ]
    with pytest.raises(DatabaseError):
        op.throw(DatabaseError("out of memory", sqlstate="53200"))


def test_a_bare_claim_leaves_the_history_to_be_read_in_pages(store: Store) -> None:
    session = store.register()
    item = store.claimed(session, store.start())
    store.flush(session, entries=[(item.run_id, outcome(0))], updates=[change(item, RunAction.RELEASE)])
    params = claims._params(session, 1, None, "{}") | {"bare": True}

    def bare() -> Any:
        return claims._claimed((yield Statement("claim", params)))

    (again,) = store.run(bare()).runs
    assert again.entries is None
    assert again.next_index == 1


def test_a_sleeper_is_ready_when_its_time_has_come_and_not_before(store: Store) -> None:
    session = store.register()
    item = store.claimed(session, store.start())
    store.update(session, item, RunAction.HANG_UP, delay=HOUR)
    promoted = store.run(claims.promote())
    assert promoted.count == 0
    assert promoted.next_due_at == store.row(item.run_id, "due_at")
    assert store.claim(session).next_due_at == promoted.next_due_at
    store.advance(3601)
    assert store.run(claims.promote()).count == 1
    assert store.status(item.run_id) == Status.READY
    assert store.run(claims.promote()).next_due_at is None


def test_a_claim_passes_over_a_locked_row(store: Store) -> None:
    session = store.register()
    locked, free = store.start(), store.start()
    holder = store.connect(autocommit=False)
    store.sql("SELECT 1 FROM {schema}.run WHERE run_id = %s FOR UPDATE", locked, conn=holder)
    conn = store.connect(statement_timeout="500ms")
    assert [item.run_id for item in store.run(claims.claim(session, 1), conn).runs] == [free]
    holder.commit()
    assert [item.run_id for item in store.claim(session).runs] == [locked]


def test_a_promotion_takes_a_batch_and_passes_over_locked_rows(store: Store) -> None:
    session = store.register()
    for _ in range(5):
        store.start()
    items = store.claim(session).runs
    store.flush(session, updates=[change(item, RunAction.RETRY, delay=HOUR) for item in items])
    store.advance(3601)
    assert store.run(claims.promote(limit=2)).count == 2
    (locked,) = store.sql("SELECT run_id FROM {schema}.run WHERE status = 1 ORDER BY due_at LIMIT 1")
    holder = store.connect(autocommit=False)
    store.sql("SELECT 1 FROM {schema}.run WHERE run_id = %s FOR UPDATE", locked[0], conn=holder)
    assert store.run(claims.promote()).count == 2
    holder.commit()
    assert store.run(claims.promote()).count == 1


def test_released_runs_are_ready_at_once_without_a_recovery(store: Store) -> None:
    session = store.register()
    for _ in range(3):
        store.start()
    items = store.claim(session).runs
    assert store.run(claims.owned(session)) == {item.run_id: 1 for item in items}
    assert store.run(claims.release(session, [items[0].run_id])) == 1
    assert store.run(claims.release(session)) == 2
    assert store.run(claims.owned(session)) == {}
    assert store.sql("SELECT DISTINCT status, recoveries FROM {schema}.run") == [(Status.READY, 0)]


def test_a_paused_queue_is_not_claimed_and_goes_on_where_it_was(store: Store) -> None:
    session = store.register()
    run_id = store.start(queue="mail")
    assert store.run(queues.pause("mail", who="ann", reason="flood")) is True
    assert store.run(queues.pause("mail")) is False
    assert store.run(queues.paused()) == ["mail"]
    assert store.claim(session).runs == []
    assert store.run(claims.hold()) == 1
    assert store.status(run_id) == Status.HELD
    assert store.run(claims.put_back()) == 0
    assert store.run(queues.resume("mail")) is True
    assert store.run(claims.put_back()) == 1
    assert [item.run_id for item in store.claim(session).runs] == [run_id]
    assert store.sql("SELECT action, subject, who, reason FROM {schema}.audit ORDER BY id") == [
        ("queue paused", "mail", "ann", "flood"),
        ("queue resumed", "mail", None, None),
    ]


def test_runs_that_no_live_worker_knows_are_held_until_one_registers(store: Store) -> None:
    session = store.register("flow")
    run_id = store.start("later")
    assert store.run(claims.hold()) == 1
    assert store.run(claims.hold()) == 0
    store.register("later", queues=["elsewhere"])
    assert store.run(claims.put_back()) == 0
    other = store.register("later")
    assert store.run(claims.put_back()) == 1
    assert store.claim(session).runs == []
    assert [item.run_id for item in store.claim(other).runs] == [run_id]


def test_news_are_requests_and_mail_since_the_claim(store: Store) -> None:
    session = store.register()
    parent = store.claimed(session, store.start())
    quiet = store.claimed(session, store.start())
    assert store.run(inbox.news(session)) == []
    store.flush(session, children=[child_of(parent)])
    (child,) = store.claim(session).runs
    store.flush(session, updates=[ending(child)])
    store.sql("UPDATE {schema}.run SET request = 1, reason = 'no more' WHERE run_id = %s", quiet.run_id)
    found = {item.run_id: item for item in store.run(inbox.news(session))}
    assert set(found) == {parent.run_id, quiet.run_id}
    assert (found[parent.run_id].mail, [m.key for m in found[parent.run_id].inbox]) == (1, ["child"])
    assert (found[quiet.run_id].request, found[quiet.run_id].reason) == (1, "no more")
    store.update(session, parent, RunAction.SET, mail_read=1)
    assert [item.run_id for item in store.run(inbox.news(session))] == [quiet.run_id]


def test_a_run_that_has_not_begun_is_cancelled_and_one_that_has_is_asked(store: Store) -> None:
    session = store.register()
    parent = store.claimed(session, store.start())
    children = [child_of(parent, key=key) for key in ("fresh", "begun", "waiting")]
    store.flush(session, children=children)
    by_key = {item.parent_key: item for item in store.claim(session).runs}
    store.update(session, by_key["waiting"], RunAction.HANG_UP, delay=HOUR)
    fresh = child_of(parent, key="fresh2")
    store.flush(session, children=[fresh], updates=[change(parent, RunAction.HANG_UP)])
    ids: list[UUID] = [fresh.run_id, by_key["begun"].run_id, by_key["waiting"].run_id]
    assert store.run(claims.cancel_runs(ids, "lost the race")) == 3
    assert [store.row(run_id, "status", "request", "reason") for run_id in ids] == [
        (Status.CANCELLED, None, "lost the race"),
        (Status.RUNNING, 1, "lost the race"),
        (Status.READY, 1, "lost the race"),
    ]
    assert store.run(claims.cancel_runs(ids, "again")) == 0
    said = f'{{"status":"cancelled","error":{{"reason" : "lost the race"}},"run_id":"{fresh.run_id}"}}'
    assert store.inbox(parent.run_id) == [("fresh2", said)]
    assert store.status(parent.run_id) == Status.READY


def test_a_child_that_a_commit_notes_as_unwanted_is_cancelled_as_soon_as_its_row_is_free(store: Store) -> None:
    """Only a child of the run that notes it; and a note goes with what it asks for, not before."""
    session = store.register()
    parent, other = (store.claimed(session, store.start()) for _ in range(2))
    children = [child_of(parent, key=key) for key in ("locked", "free", "ended")]
    elses = child_of(other)
    store.flush(session, children=[*children, elses])
    locked, free, ended = (child.run_id for child in children)
    store.run(claims.cancel_runs([ended], "before"))
    notes = [(parent.run_id, Unwanted(run_id)) for run_id in (locked, free, ended, elses.run_id)]
    holder = store.connect(autocommit=False)
    store.sql("SELECT FROM {schema}.run WHERE run_id = %s FOR UPDATE", parent.run_id, conn=holder)
    done = store.flush(session, updates=[change(parent, RunAction.COMPLETE, output="1")], effects=notes)
    assert done.skipped == {parent.run_id}
    assert store.one("SELECT count(*) FROM {schema}.unwanted") == 0
    holder.rollback()
    store.flush(session, updates=[change(parent, RunAction.COMPLETE, output="1")], effects=notes)
    assert store.status(parent.run_id) == Status.COMPLETED
    store.sql("SELECT FROM {schema}.run WHERE run_id = %s FOR UPDATE", locked, conn=holder)
    assert store.run(claims.cancel_children()) == 1
    assert store.row(free, "status", "reason") == (Status.CANCELLED, UNWANTED)
    assert store.sql("SELECT run_id FROM {schema}.unwanted") == [(locked,)]
    holder.rollback()
    assert store.run(claims.cancel_children()) == 1
    assert [store.status(run_id) for run_id in (locked, elses.run_id)] == [Status.CANCELLED, Status.READY]
    assert store.one("SELECT count(*) FROM {schema}.unwanted") == 0
