"""Whose end is counted against which run: a process that died counts, one that lived and lost its lease does not."""

from __future__ import annotations

import threading
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from flowgen.postgres import care, claims, workers
from flowgen.postgres.database import connect, run
from flowgen.postgres.rows import RunAction, Session
from flowgen.postgres.workers import Excuse, Lost
from tests.integration.postgres.store import LEASE, Store, change, outcome
from tests.waiting import eventually

EXCUSES: tuple[Excuse, ...] = ("outage", "stall")


def owned_by_one_that_is_lost(store: Store, run_id: UUID) -> Session:
    """A session claims the run, and its lease ends."""
    session = store.register()
    found = store.claim(session).runs or store.run(claims.claim_suspect(session)).runs
    assert [item.run_id for item in found] == [run_id]
    end_lease(store, session)
    return session


def end_lease(store: Store, session: Session) -> None:
    store.sql("UPDATE {schema}.worker SET lease_until = {schema}.clock() WHERE worker_id = %s", session.id)


def back(store: Store, lost: Session, excuse: Excuse = "outage") -> Session:
    """The process of the session lives: it registers anew."""
    previous = Lost(lost.id, excuse)
    registered = store.run(workers.register(uuid4(), lease=LEASE, definitions=["flow", "job"], previous=previous))
    return registered.session


def died(store: Store, run_id: UUID) -> Session:
    lost = owned_by_one_that_is_lost(store, run_id)
    assert store.run(workers.reap()).released == 1
    return lost


def recoveries(store: Store, run_id: UUID) -> int:
    count: int = store.row(run_id, "recoveries")
    return count


@pytest.mark.parametrize("excuse", EXCUSES)
def test_who_comes_back_before_its_runs_were_released_is_charged_nothing(store: Store, excuse: Excuse) -> None:
    run_id = store.start()
    lost = owned_by_one_that_is_lost(store, run_id)
    back(store, lost, excuse)
    assert store.run(workers.reap()).released == 1
    assert store.row(run_id, "status", "recoveries", "lost_with") == (0, 0, None)


@pytest.mark.parametrize("excuse", EXCUSES)
def test_who_comes_back_after_that_is_given_back_what_was_charged(store: Store, excuse: Excuse) -> None:
    run_id = store.start()
    lost = died(store, run_id)
    assert store.row(run_id, "recoveries", "lost_with") == (1, [lost.id])
    back(store, lost, excuse)
    back(store, lost, excuse)
    assert store.row(run_id, "recoveries", "lost_with", "stalls") == (0, None, 1 if excuse == "stall" else None)
    assert not store.run(care.look()).lost


def test_who_comes_back_between_the_commits_of_a_reaping_is_charged_nothing(store: Store) -> None:
    for stage in range(3):
        run_id = store.start()
        lost = owned_by_one_that_is_lost(store, run_id)
        reaping = workers.reap()
        rows: list[object] = []
        request = next(reaping)
        for _ in range(stage):
            with store.conn.cursor(binary=True) as cursor:
                rows = list(cursor.execute(store.schema.text(request.name), request.params).fetchall())  # type: ignore[union-attr]
            request = reaping.send(rows)
        session = back(store, lost)
        store.run(workers.reap())
        assert recoveries(store, run_id) == 0, stage
        store.update(session, store.claimed(session, run_id), RunAction.COMPLETE, output="1")
        store.run(workers.leave(session))


def test_who_comes_back_while_its_runs_are_being_released_waits_and_is_given_back_what_was_charged(
    store: Store,
) -> None:
    run_id = store.start()
    lost = owned_by_one_that_is_lost(store, run_id)
    other = store.connect(autocommit=False)
    store.run(workers.reap(), other)  # its commit is still to come
    returned = threading.Event()

    def come_back() -> None:
        conn = connect(store.url, application_name="comes back")
        run(conn, workers.excuse(Lost(lost.id, "outage")), store.schema)
        conn.close()
        returned.set()

    thread = threading.Thread(target=come_back)
    thread.start()
    eventually(
        lambda: store.sql(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() "
            "AND application_name = 'comes back' AND wait_event_type = 'Lock'"
        )
    )
    assert not returned.is_set()
    other.commit()
    thread.join(10)
    assert returned.is_set()
    assert store.row(run_id, "status", "recoveries") == (0, 0)


def test_who_does_not_come_back_is_counted_whoever_else_does(store: Store) -> None:
    run_id = store.start()
    lived = died(store, run_id)
    killed = died(store, run_id)
    assert recoveries(store, run_id) == 2
    back(store, lived)
    assert store.row(run_id, "recoveries", "lost_with") == (1, [killed.id])
    died(store, run_id)
    assert recoveries(store, run_id) == 2
    died(store, run_id)
    assert recoveries(store, run_id) == 3


def test_an_old_charge_is_not_taken_back_from_a_newer_one(store: Store) -> None:
    run_id = store.start()
    lived = died(store, run_id)
    killed = store.register()
    (item,) = store.claim(killed).runs
    store.flush(killed, entries=[(run_id, outcome(0))])
    end_lease(store, killed)
    store.run(workers.reap())
    assert store.row(run_id, "recoveries", "lost_with") == (1, [killed.id])
    back(store, lived)
    assert recoveries(store, run_id) == 1


def test_a_charge_of_before_a_hang_up_is_not_taken_back_from_a_later_one(store: Store) -> None:
    run_id = store.start()
    lived = died(store, run_id)
    session = store.register()
    (item,) = store.claim(session).runs
    store.flush(session, updates=[change(item, RunAction.HANG_UP, delay=timedelta(0))])
    assert recoveries(store, run_id) == 0
    killed = died(store, run_id)
    back(store, lived)
    assert store.row(run_id, "recoveries", "lost_with") == (1, [killed.id])


def test_five_outages_in_a_row_make_no_suspect(store: Store) -> None:
    run_id = store.start()
    for _ in range(5):
        lost = died(store, run_id)
        back(store, lost)
    assert store.row(run_id, "recoveries", "stalls") == (0, None)


@pytest.mark.parametrize("before_the_release", [True, False])
def test_a_run_that_holds_its_process_up_again_and_again_is_let_off_three_times_and_then_counted(
    store: Store, before_the_release: bool
) -> None:
    run_id = store.start()

    def stalls() -> None:
        lost = owned_by_one_that_is_lost(store, run_id)
        if before_the_release:
            back(store, lost, "stall")
            store.run(workers.reap())
        else:
            store.run(workers.reap())
            back(store, lost, "stall")

    counts = []
    for _ in range(6):
        stalls()
        counts.append(recoveries(store, run_id))
    assert counts == [0, 0, 0, 1, 2, 3]
    assert not store.run(care.look()).lost
    session = store.register()
    (item,) = store.run(claims.claim_suspect(session)).runs
    store.flush(session, entries=[(run_id, outcome(0))])
    store.update(session, item, RunAction.RELEASE)
    assert recoveries(store, run_id) == 3, "a release is no progress"
    stalls()
    assert store.row(run_id, "recoveries", "stalls") == (0, 1), "progress lets it off anew"


def test_a_run_whose_row_is_locked_is_given_back_its_charge_by_a_later_reaping(store: Store) -> None:
    run_id = store.start()
    lost = died(store, run_id)
    user = store.connect(autocommit=False)
    store.sql("SELECT 1 FROM {schema}.run WHERE run_id = %s FOR UPDATE", run_id, conn=user)
    back(store, lost)
    assert recoveries(store, run_id) == 1
    assert store.run(care.look()).lost
    user.rollback()
    store.run(workers.reap())
    assert recoveries(store, run_id) == 0
    assert not store.run(care.look()).lost


def test_what_a_failover_ended_is_an_outage_whatever_its_process_says(store: Store) -> None:
    run_id = store.start()
    for _ in range(5):
        session = store.register()
        assert store.claim(session).runs
        store.sql("UPDATE {schema}.worker SET timeline = '0000002A' WHERE worker_id = %s", session.id)
        store.run(workers.reap())
        back(store, session, "stall")
    assert store.row(run_id, "recoveries", "stalls") == (0, None)


def test_a_run_that_has_ended_keeps_what_it_was_charged(store: Store) -> None:
    run_id = store.start()
    lost = died(store, run_id)
    session = store.register()
    (item,) = store.claim(session).runs
    store.update(session, item, RunAction.COMPLETE, output="1")
    back(store, lost)
    assert recoveries(store, run_id) == 1
    assert not store.run(care.look()).lost


def test_what_is_left_by_a_graceful_end_is_charged_nothing_and_by_a_burial_something(store: Store) -> None:
    left, buried = store.start(), store.start()
    one, two = store.register(), store.register()
    store.claim(one, 1)
    store.claim(two, 1)
    store.run(workers.leave(one))
    store.run(workers.bury(two.id))
    assert store.run(workers.reap()).released == 2
    assert sorted(recoveries(store, run_id) for run_id in (left, buried)) == [0, 1]


@pytest.mark.fault("F24")
def test_sessions_of_one_host_and_process_id_are_told_apart(store: Store) -> None:
    """Three that look alike; one dies, and starts again under the same name."""

    def alike() -> Session:
        op = workers.register(uuid4(), lease=LEASE, definitions=["flow"], host="pod", pid=1)
        return store.run(op).session

    sessions = [alike() for _ in range(3)]
    runs = []
    for session in sessions:
        runs.append(store.start())
        assert [item.run_id for item in store.claim(session).runs] == runs[-1:]
    end_lease(store, sessions[1])
    again = alike()
    assert store.run(workers.reap()) == workers.Reaped((sessions[1].id,), 1)
    assert [item.run_id for item in store.claim(again).runs] == [runs[1]]
    assert [store.row(run_id, "owner") for run_id in runs] == [sessions[0].id, again.id, sessions[2].id]
    assert store.claim(sessions[1]).fenced
    assert not store.claim(sessions[2]).fenced
