"""Rules of wakes, ends and locks. Each is seen to fail when it is taken out."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from flowgen.core.ids import uuid_of_id
from flowgen.core.states import Status
from flowgen.errors import DatabaseError, DefinitionError
from flowgen.postgres import claims, entries, transactions
from flowgen.postgres.children import attach_child
from flowgen.postgres.database import Op, Statement
from flowgen.postgres.rows import ClaimedRun, FlushBatch, FlushResult, NewRun, RunAction, Session
from tests.integration.postgres.rules import Rule, Without, proofs_of
from tests.integration.postgres.store import Store, change, child_of, ending, outcome
from tests.waiting import eventually

BLOCKED = """
SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event IN ('transactionid', 'tuple')
"""


def parent_and_child(store: Store) -> tuple[Session, ClaimedRun, ClaimedRun]:
    session = store.register()
    parent = store.claimed(session, store.start())
    store.flush(session, children=[child_of(parent)])
    (child,) = store.claim(session).runs
    return session, parent, child


# --- wakes


def mail_that_was_not_read_makes_a_hang_up_ready(store: Store) -> None:
    session, parent, child = parent_and_child(store)
    store.flush(session, updates=[ending(child)])
    store.update(session, parent, RunAction.HANG_UP, mail_read=0, wake_at_mail=9)
    assert store.status(parent.run_id) == Status.READY


def an_end_and_the_hang_up_of_its_parent_in_one_flush_lose_no_wake(store: Store) -> None:
    session, parent, child = parent_and_child(store)
    result = store.flush(session, updates=[change(parent, RunAction.HANG_UP, mail_read=0), ending(child)])
    assert result.landed == {parent.run_id: Status.READY, child.run_id: Status.COMPLETED}
    assert store.row(parent.run_id, "mail") == 1
    assert [key for key, _ in store.inbox(parent.run_id)] == ["child"]


def a_wake_that_waits_for_the_hang_up_sees_it(store: Store) -> None:
    """The waker's UPDATE is stopped by the row lock, and judges the row as it is when it is let through."""
    session = store.register()
    store.flush(session, children=[child_of(store.claimed(session, store.start()))])
    (child,) = store.claim(session).runs
    parent = store.row(child.run_id, "parent_id")
    claim = store.row(parent, "claim")
    item = ClaimedRunStub(parent, claim)
    conn = store.connect(autocommit=False)
    store.flush(session, conn, updates=[change(item, RunAction.HANG_UP, mail_read=0)])  # type: ignore[arg-type]
    waker = store.connect()
    done = threading.Thread(target=lambda: store.sql(WAKE, parent, conn=waker))
    done.start()
    eventually(lambda: store.sql(BLOCKED))
    conn.commit()
    done.join(10)
    assert store.status(parent) == Status.READY


class ClaimedRunStub:
    def __init__(self, run_id: Any, claim: int) -> None:
        self.run_id = run_id
        self.claim = claim


WAKE = """
UPDATE {schema}.run SET mail = mail + 1,
    status = CASE WHEN status = 4 AND mail + 1 >= coalesce(wake_at_mail, 0) THEN 0 ELSE status END
WHERE run_id = %s AND status < 7
"""


# --- ends


def a_child_that_a_cancel_did_not_see_is_no_orphan(store: Store) -> None:
    session = store.register()
    parent = store.claimed(session, store.start())
    old = store.connect(autocommit=False)
    store.sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", conn=old)
    store.sql("SELECT count(*) FROM {schema}.run", conn=old)
    child = child_of(parent)
    store.flush(session, children=[child], entries=[(parent.run_id, outcome(0))])
    store.sql(
        "UPDATE {schema}.run SET request = 1 WHERE run_id = %s OR parent_id = %s",
        parent.run_id,
        parent.run_id,
        conn=old,
    )
    old.commit()
    assert store.row(child.run_id, "request") is None
    store.update(session, parent, RunAction.CANCEL, error='{"reason": null}')
    store.run(claims.cancel_children())
    assert store.status(child.run_id) == Status.CANCELLED


def all_children_of_a_failed_run_are_cancelled_however_many(store: Store) -> None:
    session = store.register()
    parent = store.claimed(session, store.start())
    children = [child_of(parent) for _ in range(5)]
    store.flush(session, children=[*children, child_of(parent, detached=True)])
    store.update(session, parent, RunAction.FAIL, error="{}")
    assert store.run(claims.cancel_children(limit=2)) == 5
    assert {store.status(child.run_id) for child in children} == {Status.CANCELLED}
    assert store.sql("SELECT status FROM {schema}.run WHERE detached") == [(Status.READY,)]


# --- starts


def the_second_starter_of_an_id_finds_the_run_of_the_first(store: Store) -> None:
    session = store.register()
    parent = store.claimed(session, store.start())
    run_id = uuid_of_id("flowgen", "order-1")
    wanted = NewRun(run_id=run_id, id="order-1", name="job", kind="task", parent_id=parent.run_id, parent_key="k")
    first = store.connect(autocommit=False)
    store.sql(
        "INSERT INTO {schema}.run (run_id, created_at, name, kind, queue, input, status, due_at)"
        " VALUES (%s, {schema}.clock(), 'job', 'task', 'default', '{}', 0, {schema}.clock())",
        run_id,
        conn=first,
    )
    found: list[Any] = []
    conn = store.connect()

    def attach() -> None:
        try:
            found.append(store.run(attach_child(session, parent.claim, wanted, [outcome(0)]), conn).what)
        except DatabaseError as error:
            found.append(error)

    second = threading.Thread(target=attach)
    second.start()
    eventually(lambda: store.sql(BLOCKED))
    first.commit()
    second.join(10)
    assert found == ["attached"]


def a_null_character_in_an_input_compares(store: Store) -> None:
    session = store.register()
    parent = store.claimed(session, store.start())
    text = '{"x": "\\u0000", "n": 1e22}'
    wanted = NewRun(
        run_id=uuid_of_id("flowgen", "a"), id="a", name="job", kind="task", input=text, parent_id=parent.run_id
    )
    for key, index in ("k1", 0), ("k2", 1):
        child = NewRun(
            run_id=wanted.run_id, id="a", name="job", kind="task", input=text, parent_id=parent.run_id, parent_key=key
        )
        store.run(attach_child(session, parent.claim, child, [outcome(index)]))
    assert store.indexes(parent.run_id) == [0, 1]


# --- locks


def a_locked_row_delays_its_own_run_only_and_the_whole_of_it(store: Store) -> None:
    session, parent, child = parent_and_child(store)
    other = store.claimed(session, store.start())
    holder = store.connect(autocommit=False)
    store.sql("SELECT 1 FROM {schema}.run WHERE run_id = %s FOR UPDATE", parent.run_id, conn=holder)
    conn = store.connect(statement_timeout="1s")
    ends = {
        "entries": [(child.run_id, outcome(0)), (other.run_id, outcome(0))],
        "children": [child_of(child, key="grandchild")],
        "updates": [ending(child), change(other, RunAction.COMPLETE, output="2")],
    }
    result = store.flush(session, conn, **ends)  # type: ignore[arg-type]
    assert (result.skipped, set(result.landed)) == ({child.run_id}, {other.run_id})
    assert store.indexes(child.run_id) == []
    assert store.one("SELECT count(*) FROM {schema}.run WHERE parent_id = %s", child.run_id) == 0
    assert store.status(child.run_id) == Status.RUNNING
    holder.commit()
    del ends["updates"][1], ends["entries"][1]
    assert set(store.flush(session, conn, **ends).landed) == {child.run_id}  # type: ignore[arg-type]
    assert store.indexes(child.run_id) == [0]
    assert len(store.inbox(parent.run_id)) == 1


PAUSE = """
CREATE FUNCTION public.pause() RETURNS trigger LANGUAGE plpgsql
AS 'BEGIN PERFORM pg_advisory_xact_lock_shared(77); RETURN NULL; END';
CREATE TRIGGER pause AFTER UPDATE OF progress ON {schema}.run FOR EACH ROW
WHEN (NEW.progress IS NOT NULL AND OLD.progress IS NULL) EXECUTE FUNCTION public.pause();
"""
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"


def noted(op: Op[FlushResult], eager: list[bool]) -> Op[FlushResult]:
    """The same; whether each of its tries is an eager one is noted before it is sent."""
    step: Callable[[], Any] = partial(next, op)
    while True:
        try:
            request = step()
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        if isinstance(request, Statement) and "eager" in request.params:
            eager.append(request.params["eager"])
        try:
            step = partial(op.send, (yield request))
        except DatabaseError as error:
            step = partial(op.throw, error)


def flushes_that_cross_do_not_deadlock(store: Store) -> None:
    """Each of two flushes changes the row of its own run, stops, and goes on to the row of the other's."""
    sessions, parents, children = [], [], []
    for queue in "ab":
        sessions.append(store.register("flow", "job", queues=[queue]))
        parents.append(store.claimed(sessions[-1], store.start(queue=queue)))
    for mine, session in enumerate(sessions):
        store.flush(sessions[1 - mine], children=[child_of(parents[1 - mine], queue="ab"[mine])])
        children.extend(store.claim(session).runs)
    store.sql(PAUSE)
    barrier = store.connect(autocommit=False)
    store.sql("SELECT pg_advisory_xact_lock(77)", conn=barrier)
    ends: list[Any] = []
    tries: list[bool] = []

    def flush(mine: int) -> None:
        updates = [change(parents[mine], RunAction.SET, progress="1"), ending(children[mine])]
        op = noted(entries.flush(sessions[mine], FlushBatch(updates=updates)), tries)
        try:
            ends.append(store.run(op, conns[mine]))
        except DatabaseError as error:
            ends.append(error)

    conns = [store.connect() for _ in sessions]
    threads = [threading.Thread(target=flush, args=(mine,)) for mine in range(2)]
    # An eager try waits for 2 ms, and holds less: who comes in between is left out with one of its runs, or with none.
    threads[0].start()
    eventually(lambda: tries == [True, False] and store.one(WAITING) == 1)
    threads[1].start()
    eventually(lambda: ends)
    barrier.commit()
    for thread in threads:
        thread.join(20)
    assert not [end for end in ends if isinstance(end, DatabaseError)], ends
    assert [len(end.skipped) for end in ends] == [2, 0]


def a_claim_and_a_completion_are_two_transactions(store: Store) -> None:
    session = store.register()
    item = store.claimed(session, store.start())
    store.start()
    for first, second in (
        (claims.claim(session, 1), entries.flush(session, FlushBatch(updates=[ending(item)]))),
        (entries.flush(session, FlushBatch(updates=[ending(item)])), claims.claim(session, 1)),
    ):
        conn = store.connect(autocommit=False)
        store.run(first, conn)
        try:
            store.run(second, conn)
            sqlstate = None
        except DatabaseError as error:
            sqlstate = error.sqlstate
        assert sqlstate == "FG003", "a claim and a completion went into one transaction"
        conn.rollback()


# --- Transaction


def a_transaction_that_its_function_ended_records_nothing(store: Store) -> None:
    session = store.register()
    item = store.claimed(session, store.start())
    store.sql("CREATE TABLE public.ledger (n integer)")
    for word in ("ROLLBACK", "COMMIT"):
        conn = store.connect(autocommit=False)
        store.run(transactions.begin("token"), conn)
        conn.execute("INSERT INTO public.ledger VALUES (1)")
        conn.execute(word.encode())
        conn.execute("SELECT 1")
        with contextlib.suppress(DefinitionError):
            store.run(transactions.finish(session, "token", item.run_id, [outcome(0)]), conn)
        conn.close()
        assert store.indexes(item.run_id) == []


def in_flush(*changes: tuple[str, str]) -> Without:
    return lambda store: store.without("flush", *changes)


RULES = {
    "mail that was not read makes a hang-up ready": Rule(
        mail_that_was_not_read_makes_a_hang_up_ready,
        in_flush(("OR r.mail + u.letters <> u.mail_read", "")),
    ),
    "an end and its parent's hang-up in one flush: one update of a row": Rule(
        an_end_and_the_hang_up_of_its_parent_in_one_flush_lose_no_wake,
        in_flush(("r.mail + u.letters", "r.mail")),
    ),
    "an end and its parent's hang-up in one flush: no look into the inbox": Rule(
        an_end_and_the_hang_up_of_its_parent_in_one_flush_lose_no_wake,
        lambda store: store.without(
            "flush",
            (
                "r.mail + u.letters <> u.mail_read",
                "EXISTS (SELECT 1 FROM {schema}.inbox i WHERE i.run_id = r.run_id)",
            ),
        ),
    ),
    "a child that a cancel did not see is no orphan": Rule(
        a_child_that_a_cancel_did_not_see_is_no_orphan,
        in_flush(("SELECT true FROM", "SELECT NULL::boolean FROM")),
    ),
    "children are cancelled until none is found": Rule(
        all_children_of_a_failed_run_are_cancelled_however_many,
        lambda store: store.without(
            "cancel_children", ("WHERE c.parent_id = r.run_id AND", "WHERE false AND c.parent_id = r.run_id AND")
        ),
    ),
    "the second starter of an id finds the run of the first": Rule(
        the_second_starter_of_an_id_finds_the_run_of_the_first,
        lambda store: store.without("attach_child", ("IN 1..5", "IN 1..1")),
    ),
    "a NUL in an input compares": Rule(
        a_null_character_in_an_input_compares,
        lambda store: store.without("attach_child", ("there.input <> k_input", "there.input::jsonb <> k_input::jsonb")),
    ),
    "a locked row is not waited for": Rule(
        a_locked_row_delays_its_own_run_only_and_the_whole_of_it,
        in_flush((" SKIP LOCKED", "")),
    ),
    "a run that is left out is left out with its entries": Rule(
        a_locked_row_delays_its_own_run_only_and_the_whole_of_it,
        in_flush(("refused IS NULL OR refused[width_bucket(e", "true OR refused[width_bucket(e")),
    ),
    "a run that is left out is left out with its children": Rule(
        a_locked_row_delays_its_own_run_only_and_the_whole_of_it,
        in_flush(("refused IS NULL OR refused[width_bucket(k", "true OR refused[width_bucket(k")),
    ),
    "a run whose parent is locked is left out": Rule(
        a_locked_row_delays_its_own_run_only_and_the_whole_of_it,
        in_flush(("AND (parent IS NULL OR busy[width_bucket(parent, busy)] IS", "AND (true OR parent IS")),
    ),
    "flushes that cross do not deadlock": Rule(
        flushes_that_cross_do_not_deadlock,
        in_flush((" FOR NO KEY UPDATE OF r SKIP LOCKED\n    ) l;\n    IF", "\n    ) l;\n    IF")),
    ),
    "a flush after a claim is a transaction of its own": Rule(
        a_claim_and_a_completion_are_two_transactions,
        in_flush(("IF pg_current_xact_id_if_assigned() IS NOT NULL", "IF false")),
    ),
    "a claim after a flush is a transaction of its own": Rule(
        a_claim_and_a_completion_are_two_transactions,
        lambda store: store.without("claim", ("IF pg_current_xact_id_if_assigned() IS NOT NULL", "IF false")),
    ),
    "a Transaction that its function ended records nothing": Rule(
        a_transaction_that_its_function_ended_records_nothing,
        lambda store: store.without("finish_transaction", ("IF current_setting('flowgen.tx', true)", "IF p_token")),
    ),
}  # fmt: skip

test_guarantee, test_without_the_rule_it_fails = proofs_of(RULES)


def test_a_wake_that_waits_for_the_hang_up_sees_it(store: Store) -> None:
    a_wake_that_waits_for_the_hang_up_sees_it(store)
