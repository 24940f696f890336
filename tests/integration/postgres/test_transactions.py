"""A Transaction's writes and its outcome are one commit, and children with an id start once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import attrs
import psycopg
import pytest

from flowgen.core.ids import uuid_of_id
from flowgen.core.states import Status
from flowgen.errors import DatabaseError, DefinitionError, LeaseLost
from flowgen.postgres import transactions, workers
from flowgen.postgres.children import attach_child
from flowgen.postgres.database import connect_async, run_async
from flowgen.postgres.rows import ClaimedRun, NewRun, RunAction, Session
from tests.integration.postgres.store import Store, change, ending, outcome
from tests.waiting import eventually


def opened(store: Store, token: str = "token", **options: Any) -> psycopg.Connection[Any]:
    conn = store.connect(autocommit=False)
    store.run(transactions.begin(token, **options), conn)
    conn.execute("INSERT INTO public.ledger VALUES (1)")
    return conn


def ledger(store: Store) -> int:
    count: int = store.one("SELECT count(*) FROM public.ledger")
    return count


def test_writes_and_outcome_are_one_commit(store: Store) -> None:
    session, item = begun(store)
    conn = opened(store)
    assert (ledger(store), store.indexes(item.run_id)) == (0, [])
    now = store.run(transactions.finish(session, "token", item.run_id, [outcome(0)]), conn)
    assert (ledger(store), store.indexes(item.run_id)) == (1, [0])
    assert store.one("SELECT recorded_at FROM {schema}.entry") == now
    assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def begun(store: Store) -> tuple[Session, ClaimedRun]:
    store.sql("CREATE TABLE public.ledger (n integer)")
    session = store.register()
    return session, store.claimed(session, store.start())


def test_a_fenced_transaction_takes_the_writes_back(store: Store) -> None:
    session, item = begun(store)
    conn = opened(store)
    store.sql("UPDATE {schema}.worker SET dead = true")
    with pytest.raises(LeaseLost):
        store.run(transactions.finish(session, "token", item.run_id, [outcome(0)]), conn)
    conn.rollback()
    assert (ledger(store), store.indexes(item.run_id)) == (0, [])


@pytest.mark.parametrize("word", ["COMMIT", "ROLLBACK", "COMMIT AND CHAIN"])
def test_a_function_that_ends_its_transaction_is_told_so(store: Store, word: str) -> None:
    session, item = begun(store)
    conn = opened(store)
    conn.execute(word.encode())
    with pytest.raises(DefinitionError, match="ended the transaction by itself"):
        store.run(transactions.finish(session, "token", item.run_id, [outcome(0)]), conn)
    conn.rollback()
    assert store.indexes(item.run_id) == []


def test_an_error_of_the_function_leaves_nothing(store: Store) -> None:
    session, item = begun(store)
    conn = opened(store)
    with pytest.raises(psycopg.errors.UndefinedTable):
        conn.execute("SELECT * FROM public.nothing")
    with pytest.raises(DatabaseError) as seen:  # in an aborted transaction
        store.run(transactions.finish(session, "token", item.run_id, [outcome(0)]), conn)
    assert seen.value.sqlstate == "25P02"
    conn.rollback()
    assert (ledger(store), store.indexes(item.run_id)) == (0, [])


def test_the_fence_is_not_held_while_the_function_runs(store: Store) -> None:
    session, item = begun(store)
    opened(store)
    store.sql("SET statement_timeout = '1s'")
    assert store.run(workers.resolve_unknown(session)) == Session(session.id, 2)
    assert store.status(item.run_id) == Status.RUNNING


def test_a_transaction_that_stops_in_the_middle_is_ended_by_the_server(store: Store) -> None:
    begun(store)
    conn = opened(store, idle_timeout=timedelta(milliseconds=50))

    def gone() -> bool:
        return not store.sql("SELECT 1 FROM pg_stat_activity WHERE pid = %s", conn.info.backend_pid)

    eventually(gone)
    with pytest.raises(psycopg.Error):
        conn.execute("SELECT 1")
    assert ledger(store) == 0


def test_an_async_function_has_an_async_connection(store: Store) -> None:
    session, item = begun(store)

    async def use() -> None:
        conn = await connect_async(store.url, autocommit=False)
        async with conn:
            await run_async(conn, transactions.begin("t"), store.schema)
            await conn.execute("INSERT INTO public.ledger VALUES (1)")
            await run_async(conn, transactions.finish(session, "t", item.run_id, [outcome(0)]), store.schema)

    asyncio.run(use())
    assert (ledger(store), store.indexes(item.run_id)) == (1, [0])


# --- children with an author's id


def wanted(parent: ClaimedRun, key: str = "child", **parts: Any) -> NewRun:
    child = NewRun(
        run_id=uuid_of_id("flowgen", "order-1"),
        id="order-1",
        name="job",
        kind="task",
        input='{"x": 1}',
        parent_id=parent.run_id,
        parent_key=key,
        root_id=parent.root_id,
        depth=1,
        tags=("t",),
    )
    return attrs.evolve(child, **parts)


def attach(store: Store, session: Session, parent: ClaimedRun, child: NewRun, index: int, **options: Any) -> str:
    return store.run(attach_child(session, parent.claim, child, [outcome(index)], **options)).what


def test_a_second_parent_is_told_of_the_end_of_a_run_that_exists(store: Store) -> None:
    session = store.register()
    first, second = (store.claimed(session, store.start()) for _ in range(2))
    assert attach(store, session, first, wanted(first), 0) == "started"
    assert attach(store, session, first, wanted(first), 1) == "started"
    assert attach(store, session, second, wanted(second, "theirs"), 0) == "attached"
    store.flush(session, updates=[change(second, RunAction.HANG_UP, wake_at_mail=1)])
    (child,) = store.claim(session).runs
    assert store.row(child.run_id, "tags", "id") == (["t"], "order-1")
    result = store.flush(session, updates=[ending(child, output="5")])
    assert result.landed == {child.run_id: Status.COMPLETED}
    assert store.row(second.run_id, "status", "mail") == (Status.READY, 1)
    assert [key for key, _ in store.inbox(first.run_id)] == ["child"]
    assert store.inbox(second.run_id)[0][0] == "theirs"
    assert store.sql("SELECT 1 FROM {schema}.waiter") == []


def test_the_end_of_a_run_that_is_over_is_told_at_once(store: Store) -> None:
    session = store.register()
    first, second = (store.claimed(session, store.start()) for _ in range(2))
    attach(store, session, first, wanted(first), 0)
    (child,) = store.claim(session).runs
    store.flush(session, updates=[ending(child, output='{"y":  1e22}')])
    assert attach(store, session, second, wanted(second, "late"), 0) == "attached"
    said = f'{{"status":"completed","output":{{"y":  1e22}},"run_id":"{child.run_id}"}}'
    assert store.inbox(second.run_id) == [("late", said)]
    assert store.row(second.run_id, "mail") == 1
    assert store.status(child.run_id) == Status.COMPLETED


@pytest.mark.parametrize("other", [{"name": "flow"}, {"input": '{"x": 2}'}])
def test_another_definition_or_input_is_a_conflict_that_writes_nothing(store: Store, other: dict[str, str]) -> None:
    session = store.register()
    parent = store.claimed(session, store.start())
    attach(store, session, parent, wanted(parent), 0)
    conflict = store.run(attach_child(session, parent.claim, wanted(parent, "again", **other), [outcome(1)]))
    assert (conflict.what, conflict.name, conflict.input) == ("conflict", "job", '{"x": 1}')
    assert store.indexes(parent.run_id) == [0]


def test_a_parent_that_is_not_ours_attaches_nothing(store: Store) -> None:
    session = store.register()
    parent = store.claimed(session, store.start())
    store.update(session, parent, RunAction.RELEASE)
    assert attach(store, session, parent, wanted(parent), 0) == "lost"
    assert store.indexes(parent.run_id) == []
    assert store.one("SELECT count(*) FROM {schema}.run") == 1


def test_a_run_that_only_starts_another_waits_for_nothing(store: Store) -> None:
    session = store.register()
    first, second = (store.claimed(session, store.start()) for _ in range(2))
    attach(store, session, first, wanted(first), 0)
    assert attach(store, session, second, wanted(second), 0, wait=False) == "attached"
    assert store.sql("SELECT 1 FROM {schema}.waiter") == []


def test_an_end_whose_waiting_run_is_locked_is_left_for_the_next_flush(store: Store) -> None:
    session = store.register()
    first, second = (store.claimed(session, store.start()) for _ in range(2))
    attach(store, session, first, wanted(first), 0)
    attach(store, session, second, wanted(second, "theirs"), 0)
    (child,) = store.claim(session).runs
    holder = store.connect(autocommit=False)
    store.sql("SELECT 1 FROM {schema}.run WHERE run_id = %s FOR UPDATE", second.run_id, conn=holder)
    result = store.flush(session, updates=[ending(child)])
    assert (result.skipped, result.landed) == ({child.run_id}, {})
    holder.commit()
    assert set(store.flush(session, updates=[ending(child)]).landed) == {child.run_id}
    assert len(store.inbox(second.run_id)) == 1


def test_a_waiting_run_that_has_ended_is_told_nothing_and_holds_nothing_up(store: Store) -> None:
    session = store.register()
    first, second = (store.claimed(session, store.start()) for _ in range(2))
    attach(store, session, first, wanted(first), 0)
    attach(store, session, second, wanted(second, "theirs"), 0)
    (child,) = store.claim(session).runs
    store.update(session, second, RunAction.FAIL, error="{}")
    assert store.flush(session, updates=[ending(child)]).landed == {child.run_id: Status.COMPLETED}
    assert store.inbox(second.run_id) == []
    assert len(store.inbox(first.run_id)) == 1
    assert store.sql("SELECT 1 FROM {schema}.waiter") == []


def test_a_waiting_run_that_hangs_up_in_the_flush_of_the_end_loses_no_wake(store: Store) -> None:
    session = store.register()
    first, second = (store.claimed(session, store.start()) for _ in range(2))
    attach(store, session, first, wanted(first), 0)
    attach(store, session, second, wanted(second, "theirs"), 0)
    (child,) = store.claim(session).runs
    hang_ups = [change(item, RunAction.HANG_UP, wake_at_mail=1) for item in (first, second)]
    result = store.flush(session, updates=[*hang_ups, ending(child)])
    assert len(result.landed) == 3
    for item in (first, second):
        assert store.row(item.run_id, "status", "mail") == (Status.READY, 1)
        assert len(store.inbox(item.run_id)) == 1
