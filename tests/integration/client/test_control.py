"""What cancel, pause, resume, retry, accept and set_deadline guarantee."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

import flowgen
from flowgen import DefinitionError, FlowgenError
from flowgen.client.sync import Client
from flowgen.core.states import Request, RunStatus, Status
from tests.waiting import eventually

Checkout = flowgen.Workflow[..., Any, str]


@pytest.fixture
def run(client: Client, checkout: Checkout) -> UUID:
    return client.start(checkout.call("o").opts(id="x")).uuid


# --- one run


def test_a_run_that_has_not_begun_is_cancelled_outright(verbs: Any, checkout: Checkout, run: UUID, store: Any) -> None:
    verbs.start(checkout.call().opts(id="late", delay="1h"))
    for id in ("x", "late"):
        cancelled = verbs.cancel(id, "no stock")
        assert cancelled.status is RunStatus.CANCELLED
        assert (cancelled.error.message, cancelled.due_at, cancelled.requested) == ("no stock", None, None)
        assert cancelled.finished_at is not None
    assert store.column(run, "error") == {"reason": "no stock"}


def test_a_running_run_is_only_asked(verbs: Any, run: UUID, store: Any) -> None:
    store.begin(run)
    owner = store.column(run, "owner")
    assert (verbs.cancel("x", "why").status, verbs.get("x").requested) == (RunStatus.RUNNING, "cancel")
    assert store.column(run, "owner") == owner
    assert store.column(run, "reason") == "why"
    assert store.column(run, "finished_at") is None


@pytest.mark.parametrize("state", ["waiting", "ready", "delayed", "held", "paused", "parked"])
def test_a_run_that_has_begun_and_that_nobody_runs_is_asked_and_made_ready(
    verbs: Any, run: UUID, store: Any, db: psycopg.Connection[Any], state: str
) -> None:
    store.wait(run, "1 hour")
    db.execute("UPDATE flowgen.run SET status = %s, error = '{}'", (Status[state.upper()],))
    verbs.cancel("x")
    assert (store.status(run), store.column(run, "request")) == (Status.READY, Request.CANCEL)
    assert store.column(run, "due_at <= now()")
    assert store.column(run, "error") is None


def test_cancelling_again_changes_nothing_and_says_so(verbs: Any, run: UUID, store: Any) -> None:
    first = verbs.cancel("x", "first")
    assert verbs.cancel("x", "second") == first
    assert first.error.message == "first"


@pytest.mark.parametrize("end", ["complete", "fail"])
def test_an_ended_run_is_neither_cancelled_nor_paused_nor_resumed(verbs: Any, run: UUID, store: Any, end: str) -> None:
    getattr(store, end)(run)
    before = verbs.get("x")
    for verb in ("cancel", "pause", "resume"):
        with pytest.raises(FlowgenError, match=f"run x .checkout. is {before.status}: it cannot be"):
            getattr(verbs, verb)("x")
    with pytest.raises(FlowgenError, match="deadline"):
        verbs.set_deadline("x", 1)
    assert verbs.get("x") == before


def test_cancelled_is_final(verbs: Any, run: UUID) -> None:
    verbs.cancel("x")
    for verb in ("pause", "resume", "retry", "accept"):
        with pytest.raises(FlowgenError, match="is cancelled"):
            getattr(verbs, verb)("x")
    assert verbs.get("x").status is RunStatus.CANCELLED


@pytest.mark.parametrize("state", ["ready", "held", "waiting"])
def test_a_run_that_nobody_runs_is_paused_at_once_and_resumed_ready(
    verbs: Any, run: UUID, store: Any, db: psycopg.Connection[Any], state: str
) -> None:
    store.wait(run, "1 hour")
    db.execute("UPDATE flowgen.run SET status = %s", (Status[state.upper()],))
    assert verbs.pause("x", "lunch").status is RunStatus.PAUSED
    assert verbs.pause("x").status is RunStatus.PAUSED
    assert verbs.resume("x").status is RunStatus.PENDING
    assert (store.status(run), store.column(run, "due_at <= now()")) == (Status.READY, True)
    assert verbs.resume("x").status is RunStatus.PENDING


def test_a_pause_does_not_shorten_the_delay_of_a_start(verbs: Any, checkout: Checkout, store: Any) -> None:
    before = verbs.start(checkout.call().opts(id="late", delay="1h"))
    verbs.pause("late")
    after = verbs.resume("late")
    assert (store.status(after.uuid), after.due_at) == (Status.DELAYED, before.due_at)


def test_a_running_run_is_asked_to_pause_and_the_request_can_be_taken_back(verbs: Any, run: UUID, store: Any) -> None:
    store.begin(run)
    assert (verbs.pause("x").status, verbs.get("x").requested) == (RunStatus.RUNNING, "pause")
    assert (verbs.resume("x").status, verbs.get("x").requested) == (RunStatus.RUNNING, None)
    verbs.pause("x")
    assert verbs.cancel("x").requested == "cancel"
    with pytest.raises(FlowgenError, match="being cancelled"):
        verbs.pause("x")
    assert verbs.resume("x").requested == "cancel"


def test_a_parked_run_is_resumed_or_accepted_but_not_paused(verbs: Any, run: UUID, store: Any) -> None:
    store.park(run, '{"reason":"diverged","detail":"- a"}')
    with pytest.raises(FlowgenError, match="is parked: it stands already"):
        verbs.pause("x")
    resumed = verbs.resume("x")
    assert (resumed.status, resumed.error) == (RunStatus.PENDING, None)
    with pytest.raises(FlowgenError, match="only a parked run can be accepted"):
        verbs.accept("x")
    store.park(run, '{"reason":"diverged"}')
    assert verbs.accept("x", by="ann", reason="it's fine").status is RunStatus.PENDING
    assert store.inbox(run) == [(6, "", '{"by": "ann", "reason": "it\'s fine"}')]
    assert store.column(run, "mail") == 1


def test_a_run_that_ends_as_soon_as_it_is_resumed_was_resumed(verbs: Any, run: UUID, store: Any, db: Any) -> None:
    store.park(run, '{"reason":"stuck"}')
    db.execute("""
        CREATE FUNCTION public.a_quick_worker() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            UPDATE flowgen.run SET status = 7, due_at = NULL, finished_at = now(), output = '1'
            WHERE run_id = NEW.run_id;
            RETURN NULL;
        END $$;
        CREATE TRIGGER a_quick_worker AFTER UPDATE ON flowgen.run FOR EACH ROW
        WHEN (OLD.status = 6 AND NEW.status = 0) EXECUTE FUNCTION public.a_quick_worker()
    """)
    assert verbs.resume("x").status is RunStatus.COMPLETED
    with pytest.raises(FlowgenError, match="is completed: it cannot be resumed"):
        verbs.resume("x")


def test_a_failed_run_is_retried_with_what_it_has(verbs: Any, run: UUID, store: Any, db: Any) -> None:
    store.fail(run)
    db.execute("UPDATE flowgen.run SET recoveries = 3, deadline = now() - interval '1 s'")
    retried = verbs.retry("x", by="ann")
    assert (retried.status, retried.attempt, retried.error, retried.finished_at) == (RunStatus.PENDING, 2, None, None)
    assert (retried.recoveries, retried.deadline) == (0, None)
    assert [(kind, json.loads(payload)) for kind, _, payload in store.inbox(run)] == [
        (5, {"from_scratch": False, "who": "ann"})
    ]
    with pytest.raises(FlowgenError, match="is pending: only a failed run can be retried"):
        verbs.retry("x")
    store.fail(run)
    assert verbs.retry("x", from_scratch=True).attempt == 3
    assert json.loads(store.inbox(run)[-1][2])["from_scratch"] is True
    assert db.execute("SELECT action, who FROM flowgen.audit").fetchall() == [("retry", "ann"), ("retry", None)]


def test_a_failed_run_that_two_retry_is_retried_once(client: Client, run: UUID, store: Any) -> None:
    store.fail(run)
    errors: list[FlowgenError] = []
    barrier = threading.Barrier(4)

    def retry() -> None:
        barrier.wait(30)
        try:
            client.retry("x")
        except FlowgenError as error:
            errors.append(error)

    threads = [threading.Thread(target=retry) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(errors), store.column(run, "attempt"), len(store.inbox(run))) == (3, 2, 1)


def test_a_new_deadline_counts_from_now_and_wakes_who_waits(
    verbs: Any, checkout: Checkout, run: UUID, store: Any
) -> None:
    moved = verbs.set_deadline("x", "1h")
    assert timedelta(minutes=59) < moved.deadline - moved.created_at < timedelta(hours=2)
    store.wait(run, "1 day")
    assert verbs.set_deadline("x", 60).status is RunStatus.PENDING
    store.begin(run)
    mail = store.column(run, "mail")
    assert verbs.set_deadline("x", 60).status is RunStatus.RUNNING
    assert store.column(run, "mail") == mail + 1, "the owner is told"
    late = verbs.start(checkout.call().opts(delay="1h"))
    assert verbs.set_deadline(late.id, "1m").due_at < late.due_at
    with pytest.raises(DefinitionError, match="deadline"):
        verbs.set_deadline("x", -1)


@pytest.mark.parametrize("words", ["'; DROP TABLE run; --", "%s {schema} $1", "ر تل 🦀", 'quo"te\\', "a\nb"])
def test_words_of_people_are_only_words(verbs: Any, run: UUID, words: str) -> None:
    assert verbs.cancel("x", words).error.message == words
    for bad in ("a\0b", "\ud800", 7):
        with pytest.raises(DefinitionError, match="reason"):
            verbs.cancel("x", bad)


# --- trees


@pytest.fixture
def tree(run: UUID, store: Any) -> dict[str, UUID]:
    """Five levels, two of each; `d` hangs detached below level 1, with a child of its own."""
    made, above = {"0": run}, run
    for level in range(1, 5):
        made[f"{level}b"] = store.child(above, key=f"b{level}")
        above = made[f"{level}a"] = store.child(above, key=f"a{level}")
    made["d"] = store.child(made["1a"], detached=True, key="d")
    made["d1"] = store.child(made["d"])
    return made


def statuses(store: Any, tree: dict[str, UUID]) -> dict[str, Status]:
    return {name: store.status(uuid) for name, uuid in tree.items()}


def test_cancel_reaches_every_level_but_detached_runs(verbs: Any, tree: dict[str, UUID], store: Any) -> None:
    verbs.cancel("x", "no")
    found = statuses(store, tree)
    assert {name for name, status in found.items() if status is Status.CANCELLED} == set(tree) - {"d", "d1"}
    assert (found["d"], found["d1"]) == (Status.READY, Status.READY)


def test_cancel_finds_live_runs_below_ended_ones(verbs: Any, tree: dict[str, UUID], store: Any) -> None:
    store.complete(tree["1a"])
    store.fail(tree["2a"])
    store.begin(tree["3b"])
    store.wait(tree["3a"])
    verbs.cancel("x")
    found = statuses(store, tree)
    assert (found["1a"], found["2a"]) == (Status.COMPLETED, Status.FAILED)
    assert (found["3b"], store.column(tree["3b"], "request")) == (Status.RUNNING, Request.CANCEL)
    assert (found["3a"], store.column(tree["3a"], "request")) == (Status.READY, Request.CANCEL)
    assert (found["4a"], found["4b"]) == (Status.CANCELLED, Status.CANCELLED)


def test_a_cancelled_child_tells_its_waiting_parent(verbs: Any, tree: dict[str, UUID], store: Any, db: Any) -> None:
    store.wait(tree["3a"])
    db.execute("UPDATE flowgen.run SET wake_at_mail = 100 WHERE run_id = %s", (tree["3a"],))
    verbs.cancel(str(tree["4a"]), "no")
    [(kind, key, payload)] = store.inbox(tree["3a"])
    assert (kind, key) == (1, "a4")
    assert json.loads(payload) == {"status": "cancelled", "error": {"reason": "no"}}
    assert (store.status(tree["3a"]), store.column(tree["3a"], "mail")) == (Status.READY, 1)
    assert store.status(tree["4b"]) is Status.READY, "siblings go on"


def test_children_that_are_cancelled_with_a_parent_that_ends_later_tell_it_each(
    verbs: Any, tree: dict[str, UUID], store: Any
) -> None:
    store.wait(tree["1a"])
    verbs.cancel("x")
    assert sorted(key for _, key, _ in store.inbox(tree["1a"])) == ["a2", "b2"]
    assert store.column(tree["1a"], "mail") == 2
    assert store.inbox(tree["2a"]) == [], "an ended run has no inbox"
    assert (store.status(tree["1a"]), store.column(tree["1a"], "request")) == (Status.READY, Request.CANCEL)


def test_who_waits_for_a_run_that_is_no_child_is_told_too(client: Client, tree: Any, store: Any, db: Any) -> None:
    other = store.child(tree["d"])
    store.wait(other)
    db.execute("INSERT INTO flowgen.waiter VALUES (%s, %s, 'w')", (tree["4a"], other))
    client.cancel("x")
    assert [(kind, key) for kind, key, _ in store.inbox(other)] == [(1, "w")]
    assert store.status(other) is Status.READY
    assert db.execute("SELECT count(*) FROM flowgen.waiter").fetchone() == (0,)


def test_pause_and_resume_reach_every_level_but_detached_runs(verbs: Any, tree: dict[str, UUID], store: Any) -> None:
    store.begin(tree["2a"])
    store.wait(tree["2b"])
    store.park(tree["4b"], '{"reason":"diverged"}')
    verbs.pause("x")
    found = statuses(store, tree)
    assert (found["2a"], store.column(tree["2a"], "request")) == (Status.RUNNING, Request.PAUSE)
    paused = {name for name, status in found.items() if status is Status.PAUSED}
    assert paused == set(tree) - {"d", "d1", "2a", "4b"}
    verbs.resume("x")
    found = statuses(store, tree)
    assert store.column(tree["2a"], "request") is None
    assert {name for name, status in found.items() if status is Status.READY} == set(tree) - {"2a", "4b"}
    assert found["4b"] is Status.PARKED


def test_a_wide_tree_is_cancelled_whole(client: Client, run: UUID, store: Any, db: psycopg.Connection[Any]) -> None:
    store.wait(run)
    db.execute(
        "INSERT INTO flowgen.run (run_id, created_at, parent_id, parent_key, status, due_at, queue, name, kind, input) "
        "SELECT gen_random_uuid(), now(), %s, 'c' || n, 0, now(), 'default', 'child', 'task', '{}' "
        "FROM generate_series(1, 5000) n",
        (run,),
    )
    client.cancel("x")
    counted = db.execute("SELECT status, count(*) FROM flowgen.run GROUP BY 1 ORDER BY 1").fetchall()
    assert counted == [(Status.READY, 1), (Status.CANCELLED, 5000)]
    assert store.column(run, "mail") == 5000


def test_opposite_cascades_at_once_do_not_deadlock(client: Client, tree: dict[str, UUID], store: Any) -> None:
    errors: list[BaseException] = []
    barrier = threading.Barrier(4)

    def change(verb: Any, uuid: UUID) -> None:
        try:
            for _ in range(20):
                barrier.wait(30)
                verb(uuid)
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    work = [
        (client.pause, tree["0"]),
        (client.resume, tree["1a"]),
        (client.pause, tree["2a"]),
        (client.resume, tree["0"]),
    ]
    threads = [threading.Thread(target=change, args=each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    client.cancel("x")
    assert set(statuses(store, tree).values()) == {Status.CANCELLED, Status.READY}


def test_a_child_that_a_flush_inserts_meanwhile_is_found_by_the_next_round(
    client: Client, run: UUID, store: Any, flowgen_database: str
) -> None:
    with psycopg.connect(flowgen_database) as flush:
        flush.execute("SELECT FROM flowgen.run WHERE run_id = %s FOR NO KEY UPDATE", (run,))
        flush.execute(
            "INSERT INTO flowgen.run (run_id, created_at, parent_id, status, due_at, queue, name, kind, input) "
            "VALUES (gen_random_uuid(), now(), %s, 0, now(), 'default', 'child', 'task', '{}') RETURNING run_id",
            (run,),
        )
        waits = threading.Thread(target=client.cancel, args=("x",))
        waits.start()
        blocked = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND wait_event IN ('transactionid', 'tuple')"
        )
        eventually(lambda: store.db.execute(blocked).fetchone()[0])
        flush.commit()
        waits.join(30)
    assert [each.status for each in client.list()] == [RunStatus.CANCELLED] * 2
