"""What `why` answers, for each state that can be reached without a worker that runs."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
import pytest

import flowgen
from flowgen.client.sync import Client
from flowgen.core.entries import EntryKind
from flowgen.core.states import RunStatus, Status

Checkout = flowgen.Workflow[..., Any, str]


@pytest.fixture
def run(client: Client, checkout: Checkout) -> UUID:
    return client.start(checkout.call("o").opts(id="x")).uuid


def says(verbs: Any, code: str, *parts: str, stuck: bool) -> None:
    why = verbs.why("x")
    assert why.code == code, why.sentence
    assert why.stuck is stuck
    assert why.sentence.startswith(f"x (checkout) is {why.status}: ")
    assert str(why) == why.sentence
    for part in parts:
        assert part in why.sentence
    assert why.run_id == "x"


def test_no_worker_is_live(verbs: Any, run: UUID, store: Any) -> None:
    says(verbs, "no_worker", "start one with flowgen.run()", stuck=True)
    store.worker(["checkout"], live=False)
    says(verbs, "no_worker", stuck=True)


def test_no_live_worker_knows_the_definition(verbs: Any, run: UUID, store: Any) -> None:
    store.worker(["refund"])
    store.worker([])
    says(verbs, "unknown", "no live worker (of 2) knows 'checkout'", stuck=True)


@pytest.mark.parametrize("status", [Status.READY, Status.HELD])
def test_it_is_to_be_cancelled_and_nobody_is_there_to_do_it(
    verbs: Any, run: UUID, store: Any, db: psycopg.Connection[Any], status: Status
) -> None:
    """It has begun, so its handler is to clean up: only a worker that knows it can end it."""
    store.wait(run)
    verbs.cancel("x", "enough")
    db.execute("UPDATE flowgen.run SET status = %s", (status,))
    asked = "it is asked to cancel (enough), which waits for that"
    says(verbs, "no_worker", f": no worker is live; start one with flowgen.run(); {asked}", stuck=True)
    store.worker(["refund"])
    unknown = "no live worker (of 1) knows 'checkout'; start one that imports it"
    says(verbs, "unknown", f": {unknown}; {asked}", stuck=True)
    assert verbs.why("x").data["requested"] == "cancel"
    store.worker(["checkout"], ["fast"])
    says(verbs, "unserved", f"start one that does; {asked}", stuck=True)
    store.worker(["checkout"])
    says(verbs, "ready", "it is asked to cancel (enough)", stuck=False)
    db.execute("INSERT INTO flowgen.queue (name, paused, changed_at) VALUES ('default', true, now())")
    says(verbs, "queue_paused", f"its queue 'default' is paused; resume the queue; {asked}", stuck=True)


def test_no_worker_that_knows_it_serves_the_queue(verbs: Any, run: UUID, store: Any) -> None:
    store.worker(["checkout"], ["fast"])
    store.worker(["refund"], None)
    says(verbs, "unserved", "serves the queue 'default'", stuck=True)
    store.worker(["checkout"], ["fast", "default"])
    says(verbs, "ready", "live workers that can take it: 1", stuck=False)


def test_the_queue_is_paused(verbs: Any, run: UUID, db: psycopg.Connection[Any]) -> None:
    db.execute("INSERT INTO flowgen.queue (name, paused, changed_at) VALUES ('default', true, now())")
    says(verbs, "queue_paused", "queue 'default' is paused", stuck=True)


def test_it_has_killed_workers(verbs: Any, run: UUID, store: Any, db: psycopg.Connection[Any]) -> None:
    store.worker(["checkout"])
    db.execute("UPDATE flowgen.run SET recoveries = 2")
    says(verbs, "suspect", "2 workers died of it", stuck=False)


def test_its_start_or_its_next_attempt_is_delayed(
    verbs: Any, run: UUID, store: Any, db: psycopg.Connection[Any]
) -> None:
    db.execute("UPDATE flowgen.run SET status = 1, due_at = '2100-01-01 00:00:00+00'")
    says(verbs, "delayed", "its start is delayed until 2100-01-01T00:00:00.000+00:00", "no worker is live", stuck=True)
    store.worker(["checkout"])
    db.execute("UPDATE flowgen.run SET started_at = now(), attempt = 2")
    says(verbs, "delayed", "attempt 2 is delayed until 2100", stuck=False)


def test_it_runs_on_a_worker_since(verbs: Any, run: UUID, store: Any) -> None:
    store.begin(run, store.worker(["checkout"]))
    says(verbs, "running", "on box:4711, begun at 20", stuck=False)
    store.entry(run, 1, EntryKind.OUTCOME, "charge#2", status=1)
    says(verbs, "running", "recorded last: outcome of charge#2", stuck=False)
    verbs.cancel("x")
    says(verbs, "running", "asked to cancel", stuck=False)


def test_its_worker_is_gone(verbs: Any, run: UUID, store: Any) -> None:
    store.begin(run, store.worker(["checkout"], live=False))
    says(verbs, "worker_lost", "its worker on box:4711 is gone", "no worker is live", stuck=True)
    store.worker(["checkout"])
    says(verbs, "worker_lost", "another takes it over", stuck=False)


def test_it_waits_for_a_timer(verbs: Any, run: UUID, store: Any, db: psycopg.Connection[Any]) -> None:
    store.worker(["checkout"])
    store.wait(run)
    db.execute("UPDATE flowgen.run SET due_at = '2100-01-01 00:00:00+00', deadline = '2101-01-01 00:00:00+00'")
    says(verbs, "timer", "for a timer until 2100-01-01T00:00:00.000+00:00", stuck=False)
    db.execute("UPDATE flowgen.worker SET dead = true")
    db.execute("UPDATE flowgen.run SET due_at = '2020-01-01 00:00:00+00'")
    says(verbs, "timer", "which is over", "no worker is live", stuck=True)


def test_it_waits_for_children(verbs: Any, run: UUID, store: Any) -> None:
    store.worker(["checkout"])
    store.wait(run, "1 day")
    first = store.child(run, name="pick")
    says(verbs, "child", f"for child {first} (pick, pending)", "or a timer until", stuck=False)
    second = store.child(run, name="pack")
    store.begin(first)
    says(verbs, "child", "(pick, running) and 1 more", stuck=False)
    store.complete(first)
    says(verbs, "child", f"for child {second} (pack, pending)", stuck=False)


def test_it_waits_for_a_message(verbs: Any, run: UUID, store: Any, db: psycopg.Connection[Any]) -> None:
    store.wait(run)
    db.execute("UPDATE flowgen.run SET due_at = '2100-01-01 00:00:00+00', deadline = '2100-01-01 00:00:00+00'")
    says(verbs, "message", "a signal, an event or a token", "its deadline is 2100", stuck=False)


def test_it_is_paused(verbs: Any, run: UUID) -> None:
    verbs.pause("x", "lunch")
    says(verbs, "paused", "somebody paused it (lunch); resume it", stuck=True)


def test_it_is_parked_with_the_diff(verbs: Any, run: UUID, store: Any) -> None:
    store.park(run, '{"reason":"diverged","detail":"- charge\\n+ refund"}')
    says(verbs, "parked", "parked as diverged", "accept", "- charge\n+ refund", stuck=True)
    assert verbs.get("x").error.type == "Divergence"


def test_it_has_ended(verbs: Any, run: UUID, store: Any, db: psycopg.Connection[Any]) -> None:
    store.complete(run)
    says(verbs, "completed", "it ended at 20", stuck=False)
    store.fail(run)
    says(verbs, "failed", "with ValueError: boom", stuck=False)
    db.execute("UPDATE flowgen.run SET status = 9, error = '{\"reason\": null}'")
    says(verbs, "cancelled", "no reason was given", stuck=False)
    assert verbs.why("x").status is RunStatus.CANCELLED


def test_the_answer_is_data_too(verbs: Any, run: UUID, store: Any) -> None:
    store.worker(["refund"])
    data = verbs.why("x").data
    assert (data["live_workers"], data["knowing"], data["queue"], data["owner"]) == (1, 0, "default", None)
