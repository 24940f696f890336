"""Sessions: how long they live, how they end, and who gets their runs."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from flowgen.core.states import Status
from flowgen.errors import DatabaseError
from flowgen.postgres import claims, notifications, workers
from flowgen.postgres.database import run_async
from flowgen.postgres.rows import RunAction, Session
from tests.integration.postgres.store import LEASE, Store, outcome

OVER = LEASE.total_seconds() + 1


def test_a_lease_is_counted_by_the_database(store: Store) -> None:
    registered = store.run(workers.register(uuid4(), lease=LEASE, definitions=["flow"]))
    assert registered.lease_until == registered.now + LEASE
    store.advance(30)
    beat = store.run(workers.heartbeat(registered.session, LEASE))
    assert beat is not None
    assert beat.lease_until == beat.now + LEASE
    assert beat.now > registered.now + timedelta(seconds=29)


def test_a_late_heartbeat_revives_only_what_nobody_has_declared_dead(store: Store) -> None:
    session = store.register()
    store.advance(OVER)
    assert store.run(workers.heartbeat(session, LEASE)) is not None
    store.advance(2 * OVER)
    assert store.run(workers.reap()).dead == (session.id,)
    assert store.run(workers.heartbeat(session, LEASE)) is None
    assert store.run(workers.resolve_unknown(session)) is None


def test_runs_of_a_dead_session_go_to_another_with_what_they_have(store: Store) -> None:
    dead, run_id = store.register(), store.start()
    store.claim(dead)
    store.flush(dead, entries=[(run_id, outcome(0))])
    store.advance(OVER)
    session = store.register()
    assert store.run(workers.reap()) == workers.Reaped((dead.id,), 1)
    (item,) = store.claim(session).runs
    assert (item.run_id, item.claim, item.recoveries, item.next_index) == (run_id, 2, 1, 1)


def test_lost_runs_are_released_in_batches_until_the_session_has_none(store: Store) -> None:
    session = store.register()
    for _ in range(5):
        store.start()
    store.claim(session)
    store.advance(OVER)
    assert [store.run(workers.reap(limit=2)).released for _ in range(4)] == [2, 2, 1, 0]
    assert store.sql("SELECT released FROM {schema}.worker") == [(True,)]
    store.advance(OVER + 100_000)
    store.start()
    store.run(workers.reap())
    other = store.register()
    store.run(workers.leave(other))
    store.run(workers.reap())
    assert store.sql("SELECT worker_id FROM {schema}.worker") == [(other.id,)]


@pytest.mark.parametrize("change", ["timeline = '0000002A'", "system_identifier = 42"])
def test_a_session_of_before_a_failover_is_dead_whatever_its_lease(store: Store, change: str) -> None:
    session = store.register()
    store.start()
    store.claim(session)
    store.sql(f"UPDATE {{schema}}.worker SET {change}")
    assert store.run(workers.heartbeat(session, LEASE)) is None
    assert store.claim(session).fenced
    assert store.run(workers.reap()) == workers.Reaped((session.id,), 1)


def test_what_a_session_leaves_behind_is_released_by_the_next_reaping(store: Store) -> None:
    session = store.register()
    kept, left = store.start(), store.start()
    store.claim(session)
    assert store.run(claims.release(session, [kept])) == 1
    store.run(workers.leave(session))
    assert store.claim(session).fenced
    assert store.run(workers.reap()).released == 1
    assert [store.row(run_id, "status", "recoveries") for run_id in (kept, left)] == [(0, 0), (0, 0)]


def test_a_graceful_end_charges_nothing_to_a_suspect_that_it_gives_back(store: Store) -> None:
    session = store.register()
    run_id = store.start()
    store.sql("UPDATE {schema}.run SET recoveries = 2")
    (item,) = store.run(claims.claim_suspect(session)).runs
    store.update(session, item, RunAction.RELEASE)
    assert store.row(run_id, "status", "recoveries") == (Status.READY, 2)


def test_a_read_only_server_is_a_typed_error(store: Store) -> None:
    store.sql("SET default_transaction_read_only = on")
    with pytest.raises(DatabaseError, match="takes no writes") as seen:
        store.register()
    assert (seen.value.sqlstate, seen.value.transient) == ("25006", True)


def test_a_hint_is_sent_while_a_worker_is_idle_and_to_its_own_schema(store: Store) -> None:
    session = store.register()
    listener = store.connect()
    store.run(notifications.listen(), listener)
    assert store.run(notifications.notify(store.schema, "1")) is False
    store.run(notifications.say_idle(session, True))
    assert store.run(notifications.notify(store.schema, "2")) is True
    store.run(notifications.say_idle(session, False))
    assert store.run(notifications.notify(store.schema, "3")) is False
    store.run(notifications.say_idle(session, True))
    store.advance(OVER)
    assert store.run(notifications.notify(store.schema, "4")) is False
    (hint,) = list(listener.notifies(timeout=5, stop_after=1))
    assert (hint.channel, hint.payload) == ("flowgen.flowgen", "2")


def test_async_connections_run_the_same_operations(store: Store) -> None:
    import asyncio

    from flowgen.postgres.database import connect_async

    async def use() -> Session:
        conn = await connect_async(store.url)
        try:
            registered = await run_async(
                conn, workers.register(uuid4(), lease=LEASE, definitions=["flow"]), store.schema
            )
            claimed = await run_async(conn, claims.claim(registered.session, 10), store.schema)
            assert [item.run_id for item in claimed.runs] == [run_id]
            return registered.session
        finally:
            await conn.close()

    run_id = store.start()
    session = asyncio.run(use())
    assert store.row(run_id, "owner") == session.id
