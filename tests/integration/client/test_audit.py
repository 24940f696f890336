"""What `client.audit` keeps of cancel, pause, resume and set_deadline."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import psycopg
import pytest

import flowgen
from flowgen import DefinitionError, FlowgenError
from flowgen.client.sync import Client

Checkout = flowgen.Workflow[..., Any, str]


@pytest.fixture
def run(client: Client, checkout: Checkout) -> UUID:
    return client.start(checkout.call("o").opts(id="x")).uuid


def kept(verbs: Any, of: Any = "x") -> list[tuple[str, str | None, str | None]]:
    items = verbs.audit(of)
    assert all(item.subject is None and item.at.tzinfo is not None for item in items)
    return [(item.action, item.who, item.reason) for item in items]


def test_each_verb_keeps_who_and_why_in_order(verbs: Any, run: UUID, db: psycopg.Connection[Any]) -> None:
    verbs.set_deadline("x", "1h", by="ann")
    verbs.pause("x", "lunch", by="ann")
    verbs.resume("x", by="bob")
    verbs.pause("x")
    verbs.resume("x")
    verbs.cancel("x", reason="no stock", by="cy")
    assert kept(verbs) == [
        ("set_deadline", "ann", None),
        ("pause", "ann", "lunch"),
        ("resume", "bob", None),
        ("pause", None, None),
        ("resume", None, None),
        ("cancel", "cy", "no stock"),
    ]
    assert db.execute(
        "SELECT (a.details ->> 'deadline')::timestamptz = r.deadline, a.at < r.deadline "
        "FROM flowgen.audit a JOIN flowgen.run r USING (run_id) WHERE a.action = 'set_deadline'"
    ).fetchall() == [(True, True)]


def test_what_changes_nothing_keeps_nothing(verbs: Any, run: UUID, store: Any, checkout: Checkout) -> None:
    verbs.resume("x")
    for _ in range(2):
        verbs.pause("x", "once")
    for _ in range(2):
        verbs.cancel("x", "once")
    assert kept(verbs) == [("pause", None, "once"), ("cancel", None, "once")]
    other = verbs.start(checkout.call("p").opts(id="y"))
    store.complete(other.uuid)
    for verb in (verbs.cancel, verbs.pause, verbs.resume, lambda of: verbs.set_deadline(of, "1h")):
        with pytest.raises(FlowgenError, match="is completed"):
            verb("y")
    assert kept(verbs, "y") == []


def test_a_running_run_that_is_only_asked_and_a_parked_one_are_kept(verbs: Any, run: UUID, store: Any) -> None:
    store.begin(run)
    verbs.pause("x", by="ann")
    verbs.resume("x", by="ann")
    store.park(run, '{"reason":"stuck"}')
    verbs.resume("x", by="bob")
    verbs.cancel("x", by="bob")
    assert kept(verbs) == [
        ("pause", "ann", None),
        ("resume", "ann", None),
        ("resume", "bob", None),
        ("cancel", "bob", None),
    ]


def test_it_is_kept_for_the_run_that_was_named_and_not_for_each_below(
    verbs: Any, run: UUID, store: Any, db: psycopg.Connection[Any]
) -> None:
    """Also when that one stands already, and only what is below it is changed."""
    child = store.child(run)
    below = store.child(child)
    verbs.pause("x", by="ann")
    verbs.resume(child, by="bob")
    verbs.pause("x", by="cy")
    verbs.cancel("x", by="ann")
    assert kept(verbs) == [("pause", "ann", None), ("pause", "cy", None), ("cancel", "ann", None)]
    assert kept(verbs, child) == [("resume", "bob", None)]
    assert kept(verbs, below) == []
    assert db.execute("SELECT count(*) FROM flowgen.audit").fetchone() == (4,)


def test_it_is_kept_if_and_only_if_it_was_done(verbs: Any, run: UUID, db: psycopg.Connection[Any]) -> None:
    db.execute("ALTER TABLE flowgen.audit ADD CONSTRAINT full_up CHECK (who IS DISTINCT FROM 'ann')")
    for verb in (verbs.cancel, verbs.pause, lambda of, by: verbs.set_deadline(of, "1h", by=by)):
        with pytest.raises(flowgen.DatabaseError, match="full_up"):
            verb("x", by="ann")
    found = verbs.get("x")
    assert (found.status, found.deadline, kept(verbs)) == (flowgen.RunStatus.PENDING, None, [])
    verbs.pause("x", by="bob")
    with pytest.raises(flowgen.DatabaseError, match="full_up"):
        verbs.resume("x", by="ann")
    assert verbs.get("x").status == flowgen.RunStatus.PAUSED


def test_who_is_words_that_can_be_stored(verbs: Any, run: UUID) -> None:
    for verb in (verbs.cancel, verbs.pause, verbs.resume, lambda of, by: verbs.set_deadline(of, "1h", by=by)):
        for by, said in ((7, "by is 7 of type int"), ("a\0b", "by holds a NUL"), ("\ud800", "by has lone surrogates")):
            with pytest.raises(DefinitionError, match=said):
                verb("x", by=by)
    assert kept(verbs) == []
