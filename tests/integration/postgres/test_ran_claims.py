"""Rules of claims: fresh histories, bounded ones, suspects, rows in front, plans; each seen to fail when taken out."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest

from flowgen.core.states import Status
from flowgen.postgres import claims, entries, inbox, workers
from flowgen.postgres.rows import FlushBatch, RunAction, Session
from tests.integration.postgres.rules import Rule, Without, proofs_of
from tests.integration.postgres.store import LEASE, Store, change, child_of, ending, function_text, outcome
from tests.waiting import eventually

# --- histories

PAUSE = """
CREATE FUNCTION public.pause() RETURNS boolean LANGUAGE plpgsql
AS 'BEGIN PERFORM pg_advisory_xact_lock_shared(77); RETURN true; END'
"""
WAITING = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
PAUSED_SCAN = (
    "AND r.queue = one AND r.name = ANY (me.names)",
    "AND r.queue = one AND r.name = ANY (me.names) AND public.pause()",
)
# the history as the statement that locks would read it
STALE = (
    ("batch uuid[];", "batch uuid[]; old jsonb;"),
    (
        "SELECT array_agg(t.run_id) INTO batch FROM taken t;",
        "SELECT array_agg(t.run_id), (SELECT jsonb_agg(e.index) FROM {schema}.entry e) INTO batch, old FROM taken t;",
    ),
    (
        "WHERE e.run_id = r.run_id AND e.index > coalesce(r.known",
        "WHERE old @> to_jsonb(e.index) AND e.run_id = r.run_id AND e.index > coalesce(r.known",
    ),
)


def a_claim_sees_every_step_that_was_committed_before_it_has_the_run(
    *changes: tuple[str, str],
) -> Callable[[Store], None]:
    """Between the claim's snapshot and its lock, the run makes a step in another session and is released."""

    def check(store: Store) -> None:
        other, session = store.register(), store.register()
        run_id = store.start()
        store.sql(PAUSE)
        barrier = store.connect(autocommit=False)
        found: list[Any] = []
        with store.without("claim", PAUSED_SCAN, *changes):
            store.sql("SELECT pg_advisory_xact_lock(77)", conn=barrier)
            conn = store.connect()
            slow = threading.Thread(target=lambda: found.extend(store.run(claims.claim(session, 1), conn).runs))
            slow.start()
            eventually(lambda: store.sql(WAITING))
            store.sql(
                "UPDATE {schema}.run SET status = 3, owner = %s, claim = 1, started_at = {schema}.clock()", other.id
            )
            store.flush(other, entries=[(run_id, outcome(0))])
            assert store.run(claims.release(other)) == 1
            barrier.commit()
            slow.join(10)
        (item,) = found
        assert item.claim == 2
        assert [entry.index for entry in item.entries] == [0]

    return check


def nothing(store: Store) -> Any:
    return store.without("claim")


def large(store: Store, size: int, runs: int = 1) -> tuple[Session, list[UUID]]:
    session = store.register()
    ids = [store.start() for _ in range(runs)]
    store.claim(session)
    store.sql(
        "INSERT INTO {schema}.entry (run_id, recorded_at, index, kind, key, value)"
        " SELECT r, {schema}.clock(), 0, 1, 'k', repeat('1', %s) FROM unnest(%s::uuid[]) r",
        size,
        ids,
    )
    store.run(claims.release(session))
    return session, ids


def a_large_history_does_not_come_with_the_claim(store: Store) -> None:
    session, (run_id,) = large(store, 300 << 10)
    item = store.claimed(session, run_id)
    assert item.entries is None
    assert item.next_index == 1
    (entry,) = store.run(entries.page(run_id, base=0, prologue=0))
    assert len(entry.value or "") == 300 << 10
    assert store.run(entries.page(run_id, base=0, prologue=0, after=0)) == []


def the_histories_of_a_claim_are_bounded_together(store: Store) -> None:
    session, _ = large(store, 250 << 10, runs=70)
    runs = store.claim(session).runs
    whole = [item for item in runs if item.entries is not None]
    assert len(runs) == 70
    assert 60 < len(whole) < 66
    assert sum(len(entry.value or "") for item in whole for entry in item.entries or ()) <= claims.BATCH_BYTES


# --- rows in front


def fetched(store: Store, op: Any) -> int:
    """How many rows of run an operation read by an index."""
    conn = store.connect(autocommit=False)
    store.run(op, conn)
    (count,) = store.sql("SELECT idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'run'", conn=conn)[0]
    conn.commit()
    assert isinstance(count, int)
    return count


def rows_that_nobody_knows_cost_a_claim_nothing(store: Store) -> None:
    session = store.register()
    store.sql(
        "INSERT INTO {schema}.run (run_id, created_at, name, kind, queue, priority, input, status, due_at)"
        " SELECT gen_random_uuid(), {schema}.clock(), 'unknown', 'task', 'default', 9, '{}', 0, {schema}.clock()"
        " FROM generate_series(1, 2000)"
    )
    wanted = store.start()
    while store.run(claims.hold(limit=700)):
        pass
    assert fetched(store, claims.claim(session, 10)) < 20
    assert store.status(wanted) == Status.RUNNING
    store.register("unknown")
    assert store.run(claims.put_back(limit=5000)) == 2000


# --- suspects


def lose(store: Store, session: Session) -> None:
    store.sql("UPDATE {schema}.worker SET dead = true WHERE worker_id = %s", session.id)
    store.run(workers.reap())


def a_run_that_was_lost_twice_is_claimed_alone(store: Store) -> None:
    poison, neighbour = store.start(), store.start()
    for turn in range(2):
        session = store.register()
        assert len(store.claim(session).runs) == 2
        store.flush(session, entries=[(neighbour, outcome(turn))])
        lose(store, session)
    session = store.register()
    claimed = store.claim(session)
    assert [item.run_id for item in claimed.runs] == [neighbour]
    assert claimed.suspects == 1
    assert store.run(claims.claim_suspect(session)).runs == []
    store.update(session, claimed.runs[0], RunAction.COMPLETE, output="1")
    (item,) = store.run(claims.claim_suspect(session)).runs
    assert (item.run_id, item.recoveries) == (poison, 2)
    store.update(session, item, RunAction.HANG_UP, delay=LEASE)
    assert store.row(poison, "recoveries") == 0


# --- plans


def every_hot_function_reads_by_index(store: Store, *, analysed: bool = True) -> None:
    """Its plan is made on empty tables (never analysed, or analysed as empty), and used on full ones."""
    for table in ("run", "entry", "inbox"):
        store.sql(f"ALTER TABLE {{schema}}.{table} SET (autovacuum_enabled = off)")
        if analysed:
            store.sql(f"ANALYZE {{schema}}.{table}")
    conn = store.connect(autocommit=False)
    hot(store, conn, parents=2, limit=1000)
    store.sql(
        "INSERT INTO {schema}.run (run_id, created_at, name, kind, queue, input, status, due_at, finished_at)"
        " SELECT gen_random_uuid(), {schema}.clock(), 'flow', 'task', 'default', '{}', 7, NULL, {schema}.clock()"
        " FROM generate_series(1, 20000)"
    )
    store.sql(
        "INSERT INTO {schema}.entry (run_id, recorded_at, index, kind, key)"
        " SELECT run_id, {schema}.clock(), 0, 1, 'k' FROM {schema}.run WHERE status = 7"
    )
    store.sql(
        "INSERT INTO {schema}.inbox (run_id, created_at, kind, key, payload)"
        " SELECT run_id, {schema}.clock(), 2, 'k', '1' FROM {schema}.run WHERE status = 7"
    )
    hot(store, conn, parents=20, limit=3000)


COUNTS = """
SELECT relname, seq_tup_read, idx_tup_fetch FROM pg_stat_xact_user_tables
WHERE schemaname = {schema_text} AND relname IN ('run', 'entry', 'inbox')
"""


def hot(store: Store, conn: psycopg.Connection[Any], *, parents: int, limit: int) -> None:
    """What a worker runs again and again, for parents with ten children each; no statement reads more than `limit`."""
    session = store.register()
    for _ in range(parents):
        store.start()

    def step(op: Any) -> Any:
        result = store.run(op, conn)
        for table, read, got in store.sql(COUNTS, conn=conn):
            assert (read or 0) + (got or 0) <= limit, f"{op.__name__}: {read} and {got} rows of {table}"
        conn.commit()
        return result

    items = list(step(claims.claim(session, 100)).runs)
    children = [child_of(item, key=str(n)) for item in items for n in range(10)]
    step(
        entries.flush(
            session, FlushBatch(children=children, entries=[(item.run_id, outcome(item.next_index)) for item in items])
        )
    )
    runs = list(step(claims.claim(session, 1000)).runs)
    step(entries.flush(session, FlushBatch(entries=[(item.run_id, outcome(1)) for item in runs])))
    step(entries.flush(session, FlushBatch(updates=[ending(item) for item in runs])))
    mail = [(item.run_id, message.id) for item in step(inbox.news(session)) for message in item.inbox]
    assert len(mail) == 10 * parents
    read = [(item.run_id, outcome(2)) for item in items]
    step(entries.flush(session, FlushBatch(entries=read, consumed=mail)))
    hang_ups = [change(item, RunAction.HANG_UP, mail_read=10, due_at=None, delay=LEASE) for item in items]
    step(entries.flush(session, FlushBatch(updates=hang_ups)))
    store.advance(2 * LEASE.total_seconds())
    step(claims.promote())
    store.advance(0)
    again = list(step(claims.claim(session, 1000)).runs)
    assert len(again) == parents
    step(claims.release(session, [item.run_id for item in again[:1]]))
    step(workers.reap())
    step(claims.hold())
    step(claims.put_back())
    step(claims.cancel_children())
    (released,) = step(claims.claim(session, 1)).runs
    failed = [change(item, RunAction.FAIL, error="{}") for item in [released, *again[1:]]]
    step(entries.flush(session, FlushBatch(updates=failed)))
    step(claims.cancel_children())


OFF = ("SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off", "")


def with_plans_as_they_come(function: str) -> Without:
    return lambda store: store.without(function, OFF)


def plain_joins(function: str) -> list[tuple[str, str]]:
    """`= ANY (ARRAY[x])` as `= x`, which a planner may also answer with the other table first."""
    found = set(re.findall(r"= ANY \(ARRAY\[([\w.]+)\]\)", function_text(function)))
    return [(f"= ANY (ARRAY[{column}])", f"= {column}") for column in found]


@contextlib.contextmanager
def with_plain_joins(store: Store, function: str) -> Iterator[None]:
    """The other table comes first where an index scan of it is allowed."""
    store.sql(f"ALTER DATABASE {store.conn.info.dbname} SET enable_indexscan = on")
    with store.without(function, *plain_joins(function)):
        yield


RULES = {
    "a claim reads a history that is younger than its lock": Rule(
        a_claim_sees_every_step_that_was_committed_before_it_has_the_run(), nothing
    ),
    "a large history does not come with the claim": Rule(
        a_large_history_does_not_come_with_the_claim,
        lambda store: store.without("claim", ("bytes <= p_run_bytes", "bytes <= 1000000000")),
    ),
    "the histories of a claim are bounded together": Rule(
        the_histories_of_a_claim_are_bounded_together,
        lambda store: store.without("claim", (" AND r.running <= p_batch_bytes", "")),
    ),
    "rows that nobody knows cost a claim nothing": Rule(
        rows_that_nobody_knows_cost_a_claim_nothing,
        lambda store: store.without(
            "hold", ("SET status = 2 FROM", "SET status = 0 FROM"), ("RETURN held", "RETURN 0")
        ),
    ),
    "a run that was lost twice is claimed alone": Rule(
        a_run_that_was_lost_twice_is_claimed_alone,
        lambda store: store.without("claim", ("r.status = 0 AND r.recoveries < 2", "r.status = 0")),
    ),
    "a suspect is claimed by a session that owns nothing": Rule(
        a_run_that_was_lost_twice_is_claimed_alone,
        lambda store: store.without("claim", ("IF p_suspect AND NOT EXISTS", "IF p_suspect OR NOT EXISTS")),
    ),
    "a recovery without progress is counted": Rule(
        a_run_that_was_lost_twice_is_claimed_alone,
        lambda store: store.without("release_lost", ("CASE WHEN j.counts THEN 1 ELSE 0 END, 9999", "0, 9999")),
    ),
    "progress starts the count of recoveries anew": Rule(
        a_run_that_was_lost_twice_is_claimed_alone,
        lambda store: store.without("release_lost", ("g.last > coalesce(g.recovered_index, -1)", "false")),
    ),
    **{
        f"hot functions read by index: {name}": Rule(every_hot_function_reads_by_index, with_plans_as_they_come(name))
        for name in ("flush", "claim", "promote", "release_runs", "news", "cancel_children", "hold", "put_back")
    },
    "a join with run can only be a look-up": Rule(
        every_hot_function_reads_by_index, lambda store: with_plain_joins(store, "flush"), since=18
    ),
}

FRESH = "a claim reads a history that is younger than its lock"
_guarantee, _without = proofs_of({name: rule for name, rule in RULES.items() if name != FRESH})
test_guarantee, test_without_the_rule_it_fails = _guarantee, _without


def test_a_claim_reads_a_history_that_is_younger_than_its_lock(store: Store) -> None:
    RULES[FRESH].holds(store)


def test_a_history_of_the_statement_that_locks_is_seen_to_be_stale(store: Store) -> None:
    with pytest.raises(AssertionError):
        a_claim_sees_every_step_that_was_committed_before_it_has_the_run(*STALE)(store)


def test_every_lock_of_several_runs_is_taken_in_the_order_of_run_id() -> None:
    for name in (
        "flush",
        "promote",
        "release_runs",
        "release_lost",
        "excuse",
        "cancel_some",
        "cancel_children",
        "hold",
        "put_back",
    ):
        text = function_text(name)
        locks = re.findall(r"(?:(ORDER BY r\.run_id)\s+)?FOR NO KEY UPDATE(?! OF w)(?: OF r)?( SKIP LOCKED)?", text)
        assert locks, name
        assert all(ordered and skipping for ordered, skipping in locks), name
