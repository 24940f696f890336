"""Rules of the fence: what a session may write, and how its runs are taken; each seen to fail when taken out."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Any

import psycopg

from flowgen.core.states import Status
from flowgen.errors import DatabaseError, LeaseLost
from flowgen.postgres import claims, entries, transactions, workers
from flowgen.postgres.children import attach_child
from flowgen.postgres.rows import FlushBatch, NewRun, RunAction, ScheduleChange, Session
from tests.integration.postgres.rules import Rule, Without, proofs_of
from tests.integration.postgres.store import LEASE, Store, change, child_of, ending, functions, outcome

TABLES = ("run", "entry", "inbox", "schedule", "waiter")
GUARD = ("IF NOT FOUND THEN", "IF false THEN")
Effect = Callable[[Store, Session], Any]


def dump(store: Store) -> list[Any]:
    return [store.sql(f"SELECT t::text FROM {{schema}}.{table} t ORDER BY 1") for table in TABLES]


def die(store: Store, session: Session) -> None:
    store.sql("UPDATE {schema}.worker SET dead = true WHERE worker_id = %s", session.id)


# --- each effect apart


def fenced_apart(effect: str) -> Callable[[Store], None]:
    def check(store: Store) -> None:
        session = store.register()
        parent = store.claimed(session, store.start())
        store.flush(session, children=[child_of(parent, key="told"), child_of(parent, key="left")])
        told, left = store.claim(session).runs
        store.flush(session, updates=[ending(told)])
        message = store.one("SELECT id FROM {schema}.inbox")
        ready = store.start()
        wanted = NewRun(run_id=ready, id="x", name="flow", kind="workflow", parent_id=parent.run_id, parent_key="k")
        schedule = ScheduleChange(target="job", name="s", cron="* * * * *", next_at=datetime(2040, 1, 1, tzinfo=UTC))
        flushes: dict[str, dict[str, Any]] = {
            "an entry": {"entries": [(parent.run_id, outcome(0))]},
            "a consumed message": {"consumed": [(parent.run_id, message)]},
            "a row": {"updates": [change(parent, RunAction.COMPLETE, output="1")]},
            "an entry beside a row": {
                "updates": [change(left, RunAction.SET)],
                "entries": [(parent.run_id, outcome(0))],
            },
            "a message": {"updates": [ending(left)]},
            "a child": {"children": [child_of(parent)]},
            "a schedule": {"schedules": [(parent.run_id, schedule)]},
        }
        die(store, session)
        before = dump(store)
        if effect in flushes:
            assert store.flush(session, **flushes[effect]).fenced
        elif effect == "a claim":
            assert store.claim(session).fenced
        elif effect == "a release":
            assert store.run(claims.release(session)) is None
        elif effect == "an attachment":
            attached = store.run(attach_child(session, parent.claim, wanted, [outcome(0)]))
            assert attached.what == "fenced"
        else:
            with contextlib.closing(store.connect(autocommit=False)) as conn:
                store.run(transactions.begin("token"), conn)
                try:
                    store.run(transactions.finish(session, "token", parent.run_id, [outcome(0)]), conn)
                except LeaseLost:
                    pass
                else:
                    raise AssertionError("a fenced Transaction committed")
        assert dump(store) == before

    return check


def unguarded(function: str) -> Without:
    return lambda store: store.without(function, GUARD)


EFFECTS = {
    "an entry": "flush_entries",
    "a consumed message": "flush_entries",
    "a row": "flush",
    "an entry beside a row": "flush",
    "a message": "flush",
    "a child": "flush",
    "a schedule": "flush",
    "a claim": "claim",
    "a release": "release_runs",
    "an attachment": "attach_child",
    "a Transaction": "flush_entries",
}


# --- what the fence compares


def over(why: str) -> Callable[[Store], None]:
    def check(store: Store) -> None:
        session = store.register()
        item = store.claimed(session, store.start())
        if why == "epoch":
            session = Session(session.id, session.epoch + 1)
        elif why == "lease":
            store.advance(LEASE.total_seconds() + 1)
        else:
            value = {"dead": "true", "timeline": "'0000002A'", "system_identifier": "42"}[why]
            store.sql(f"UPDATE {{schema}}.worker SET {why} = {value}")
        assert store.flush(session, entries=[(item.run_id, outcome(0))]).fenced
        assert store.indexes(item.run_id) == []

    return check


CONDITIONS = {
    "dead": "AND NOT w.dead",
    "epoch": "AND w.epoch = p_epoch",
    "lease": "AND w.lease_until > {schema}.clock()",
    "timeline": "AND w.timeline = {schema}.timeline()",
    "system_identifier": "AND w.system_identifier = {schema}.system_identifier()",
}


def uncompared(condition: str) -> Without:
    return lambda store: store.without("flush_entries", (condition, ""))


# --- how runs are taken from a session


@contextlib.contextmanager
def in_flight(store: Store, session: Session, **parts: Any) -> Iterator[psycopg.Connection[Any]]:
    """A flush that is on its way: done, and not committed."""
    conn = store.connect(autocommit=False)
    assert not store.run(entries.flush(session, FlushBatch(**parts)), conn).fenced
    try:
        yield conn
    finally:
        conn.close()


def a_flush_in_flight_keeps_the_reaper_from_its_runs(store: Store) -> None:
    session = store.register()
    item = store.claimed(session, store.start())
    with in_flight(store, session, entries=[(item.run_id, outcome(0))]) as conn:
        store.advance(LEASE.total_seconds() + 1)
        reaped = store.run(workers.reap())
        assert (reaped.dead, reaped.released) == ((session.id,), 0)
        assert store.status(item.run_id) == Status.RUNNING
        conn.commit()
    assert store.run(workers.reap()).released == 1
    again = store.claimed(store.register(), item.run_id)
    assert [entry.index for entry in again.entries or ()] == [0]


def overlapping_flushes_do_not_hold_a_reaper_off(store: Store) -> None:
    session = store.register()
    item = store.claimed(session, store.start())
    reaper = store.connect(statement_timeout="1s")
    with in_flight(store, session, entries=[(item.run_id, outcome(0))]) as first:
        store.advance(LEASE.total_seconds() + 1)
        store.run(workers.reap(), reaper)
        store.advance(0)  # the lease alone would let the next one pass
        assert store.flush(session, entries=[(item.run_id, outcome(1))]).fenced
        first.commit()
    assert store.run(workers.reap(), reaper).released == 1


def a_heartbeat_does_not_wait_for_a_flush(store: Store) -> None:
    session = store.register()
    item = store.claimed(session, store.start())
    with in_flight(store, session, entries=[(item.run_id, outcome(0))]):
        beat = store.run(workers.heartbeat(session, timedelta(hours=1)), store.connect(statement_timeout="1s"))
        assert beat is not None
        assert beat.lease_until == beat.now + timedelta(hours=1)


def an_unknown_commit_is_waited_for(store: Store) -> None:
    session = store.register()
    item = store.claimed(session, store.start())
    with in_flight(store, session, entries=[(item.run_id, outcome(0))]) as conn:
        try:
            store.run(workers.resolve_unknown(session), store.connect(statement_timeout="300ms"))
            sqlstate = None
        except DatabaseError as error:
            sqlstate = error.sqlstate
        assert sqlstate == "57014", "the epoch was bumped beside a flush in flight"
        conn.commit()
    newer = store.run(workers.resolve_unknown(session))
    assert newer == Session(session.id, session.epoch + 1)
    assert store.run(entries.read_back([item.run_id]))[item.run_id].last_index == 0
    assert store.flush(session, entries=[(item.run_id, outcome(1))]).fenced
    assert not store.flush(newer, entries=[(item.run_id, outcome(1))]).fenced


WORKER = 'SELECT w.worker_id FROM "flowgen".worker w WHERE w.worker_id = %(session)b FOR UPDATE'

RULES = {
    **{
        f"a fenced session writes nothing: {name}": Rule(fenced_apart(name), unguarded(f))
        for name, f in EFFECTS.items()
    },
    **{f"the fence looks at {why}": Rule(over(why), uncompared(text)) for why, text in CONDITIONS.items()},
    "a flush in flight keeps the reaper from its runs": Rule(
        a_flush_in_flight_keeps_the_reaper_from_its_runs,
        lambda store: store.without("flush_entries", ("FOR KEY SHARE", "")),
    ),
    "a reaper takes the lock before it releases": Rule(
        a_flush_in_flight_keeps_the_reaper_from_its_runs,
        lambda store: store.instead("reap_quiet", ("FOR UPDATE SKIP LOCKED", "")),
    ),
    "overlapping flushes do not hold a reaper off": Rule(
        overlapping_flushes_do_not_hold_a_reaper_off,
        lambda store: store.instead(
            "reap_dead",
            ("WHERE NOT dead AND", 'WHERE worker_id IN (SELECT worker_id FROM "flowgen".worker FOR UPDATE) AND'),
        ),
    ),
    "a heartbeat does not wait for a flush": Rule(
        a_heartbeat_does_not_wait_for_a_flush,
        lambda store: store.instead("heartbeat", ("WHERE worker_id = %(session)b", f"WHERE worker_id = ({WORKER})")),
    ),
    "an unknown commit is waited for": Rule(
        an_unknown_commit_is_waited_for, lambda store: store.instead("bump_epoch", (" FOR UPDATE", ""))
    ),
    "a late flush of an older epoch is refused": Rule(
        an_unknown_commit_is_waited_for, lambda store: store.without("flush_entries", (CONDITIONS["epoch"], ""))
    ),
}

test_guarantee, test_without_the_rule_it_fails = proofs_of(RULES)


def test_every_function_of_a_session_has_the_same_fence() -> None:
    of_sessions = {name: text for name, text in functions().items() if "p_session" in text.split("RETURNS")[0]}
    assert set(of_sessions) >= {"flush_entries", "flush", "claim", "release_runs", "attach_child"}
    for name, text in of_sessions.items():
        if name not in ("news", "finish_transaction"):  # reads only; goes through flush_entries
            for condition in CONDITIONS.values():
                assert condition in text, f"{name} has no {condition}"
            assert "FOR KEY SHARE" in text


def test_nothing_of_a_session_is_written_before_its_fence() -> None:
    writes = re.compile(r"\b(INSERT INTO|UPDATE|DELETE FROM)\s+\{schema\}", re.IGNORECASE)
    for name, text in functions().items():
        if "p_session" in text.split("RETURNS")[0] and name not in ("news", "finish_transaction"):
            fence = re.search(r"FOR KEY SHARE;\s+IF NOT FOUND THEN.*?RETURN[^;]*;\s+END IF;", text, re.DOTALL)
            assert fence is not None, name
            assert not writes.search(text[: fence.start()]), name


def test_a_statement_of_a_session_goes_through_a_function_with_a_fence_or_touches_its_own_row_only() -> None:
    for file in resources.files("flowgen.postgres").joinpath("sql").iterdir():
        text = file.read_text()
        if "%(session)" in text:
            written = set(re.findall(r"(?:INSERT INTO|UPDATE|DELETE FROM)\s+\{schema\}\.(\w+)", text))
            assert written <= {"worker"}, file.name
