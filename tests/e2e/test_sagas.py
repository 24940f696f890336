"""What a run did is undone when it fails or is cancelled: durably, once, with the retries of what undoes it."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import (
    App,
    Flow,
    Gather,
    Invoke,
    PermanentError,
    Retry,
    RunCancelled,
    RunFailed,
    Saga,
    Settings,
    Sleep,
    Step,
    Transaction,
)
from flowgen.client.sync import Client
from flowgen.failpoints import evicting
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program
from tests.waiting import eventually

Db = psycopg.Connection[Any]


def test_what_was_undone_before_a_worker_was_killed_is_not_undone_again_and_the_rest_is(
    program: Program, flowgen_client: Client
) -> None:
    program.write("""
def book(what):
    return what

def cancel(what):
    note(f"cancel {what}")
    if what == "b":
        gate("open", 60)
    note(f"cancelled {what}")

@workflow
def trip() -> Flow[None]:
    for what in "abc":
        yield from Step(book, what).opts(compensate=lambda booked: Step(cancel, booked))
    raise ValueError("no visa")
""")
    first = program.start()
    run = flowgen_client.start(flowgen.call("trip"))
    program.noted("cancel b")
    first.kill()
    program.open("open")
    program.start()
    with pytest.raises(RunFailed, match="ValueError: no visa"):
        run.result(timeout=30)
    done = ["cancel c", "cancelled c", "cancel b", "cancel b", "cancelled b", "cancel a", "cancelled a"]
    assert program.notes() == done
    keys = [item.path for item in flowgen_client.history(run.id) if item.kind == "outcome"]
    assert keys == ["book", "book#2", "book#3", "book#3#undo", "book#2#undo", "book#undo"]


class Bookings:
    """Steps that note what they do."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.fails: dict[str, Exception] = {}

    def book(self, what: str) -> str:
        return what

    def cancel(self, what: str) -> None:
        self.seen.append(what)
        if what in self.fails:
            raise self.fails[what]

    def booked(self, what: str) -> Step[str]:
        step = Step(self.book, what).opts(name=what)
        return step.opts(compensate=lambda booked: Step(self.cancel, booked).opts(retry=Retry(2, initial=0)))


def cancelled(client: Client, run: Any, *, meanwhile: Callable[[], object] = lambda: None) -> None:
    eventually(lambda: run.refresh().status == "waiting")
    client.cancel(run.id, reason="enough")
    meanwhile()
    with pytest.raises(RunCancelled, match="enough"):
        run.result(timeout=20)


def test_a_cancelled_run_is_cancelled_after_it_was_undone(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    bookings = Bookings()

    @app.task
    def refund(what: str) -> str:
        bookings.seen.append(f"refund {what}")
        return "refunded"

    @app.workflow
    def trip() -> Flow[None]:
        yield bookings.booked("hotel")
        yield Gather(bookings.booked("car"), Saga(bookings.booked("boat")))
        yield Step(bookings.book, "meal").opts(name="meal", compensate=Invoke(refund, "meal"))
        yield Sleep(60)

    bookings.fails["hotel"] = PermanentError("closed")
    flowgen_worker(app)
    run = flowgen_client.start(trip)
    cancelled(flowgen_client, run)
    assert bookings.seen[0] == "refund meal"
    assert sorted(bookings.seen[1:3]) == ["boat", "car"]
    assert bookings.seen[3:] == ["hotel"]
    failure = run.refresh().error
    assert failure is not None
    told = {"key": "hotel", "failure": {"type": "PermanentError", "message": "closed"}}
    assert failure.details["not_undone"] == [told]
    assert flowgen_client.cancel(run.id).status == "cancelled"


def test_a_run_that_undoes_past_its_deadline_waits_as_a_row(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    bookings = Bookings()

    @app.workflow
    def slow_refund() -> Flow[None]:
        yield Sleep(2)
        bookings.seen.append("refunded")

    @app.workflow(deadline=1.5)
    def trip() -> Flow[None]:
        yield Step(bookings.book, "meal").opts(compensate=Invoke(slow_refund))
        yield Sleep(60)

    flowgen_worker(app)
    run = flowgen_client.start(trip)
    with pytest.raises(RunFailed, match="RunTimedOut"):
        run.result(timeout=20)
    assert bookings.seen == ["refunded"]
    claims = db.execute("select claim from flowgen.run where run_id = %s", (run.uuid,)).fetchone()
    assert claims == (3,) or evicting()  # begun, at its deadline, woken by the child


def test_a_deadline_waits_for_a_part_that_is_being_undone(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    bookings = Bookings()

    @app.workflow
    def slow_refund() -> Flow[None]:
        yield Sleep(2)
        bookings.seen.append("refunded")

    def part() -> Flow[None]:
        yield Step(bookings.book, "meal").opts(name="meal", compensate=Invoke(slow_refund))
        raise ValueError("no cook")

    @app.workflow(deadline=1)
    def trip() -> Flow[None]:
        try:
            yield Saga(part())
        except ValueError:
            bookings.seen.append("went on")
        yield Sleep(60)

    flowgen_worker(app)
    run = flowgen_client.start(trip)
    with pytest.raises(RunFailed, match="RunTimedOut"):
        run.result(timeout=20)
    assert bookings.seen[0] == "refunded"
    assert bookings.seen.count("refunded") == 1
    assert [item.path for item in flowgen_client.history(run.id) if item.kind == "outcome"] == [
        "saga/meal",
        "saga/meal#undo",
    ]


def test_a_run_that_was_undone_and_is_retried_does_again_what_was_undone(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    bookings = Bookings()
    visa: list[bool] = []

    def check() -> None:
        if not visa:
            raise PermanentError("no visa")

    @app.workflow
    def trip() -> Flow[str]:
        hotel = yield from bookings.booked("hotel")
        boat = yield from bookings.booked("boat")
        yield Step(check)
        return f"{hotel} and {boat}"

    bookings.fails["boat"] = ValueError("closed")
    flowgen_worker(app)
    run = flowgen_client.start(trip)
    with pytest.raises(RunFailed, match="no visa") as failed:
        run.result(timeout=20)
    assert bookings.seen == ["boat", "boat", "hotel"]
    assert [each["key"] for each in failed.value.failure.details["not_undone"]] == ["boat"]
    visa.append(True)
    flowgen_client.retry(run.id)
    assert run.result(timeout=20) == "hotel and boat"
    made = [item.path for item in flowgen_client.history(run.id) if item.kind == "outcome" and not item.aside]
    assert sorted(made) == ["boat", "check", "hotel"]
    assert len([item for item in flowgen_client.history(run.id) if item.path == "hotel"]) == 2
    assert len([item for item in flowgen_client.history(run.id) if item.path == "boat"]) == 1


def test_a_run_that_is_paused_while_it_is_undone_goes_on_with_the_rest(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    bookings = Bookings()

    @app.workflow
    def trip() -> Flow[None]:
        yield bookings.booked("hotel")
        yield Step(bookings.book, "time").opts(compensate=Sleep(1.5))
        raise ValueError("boom")

    flowgen_worker(app)
    run = flowgen_client.start(trip)
    eventually(lambda: any(item.kind == "ending" for item in flowgen_client.history(run.id)))
    eventually(lambda: run.refresh().status == "waiting")
    flowgen_client.pause(run.id)
    eventually(lambda: run.refresh().status == "paused")
    assert bookings.seen == []
    flowgen_client.resume(run.id)
    with pytest.raises(RunFailed, match="boom"):
        run.result(timeout=20)
    assert bookings.seen == ["hotel"]


class Base64:
    """A codec after which nothing can be read."""

    name = "base64"

    def encode(self, text: str) -> str:
        return base64.b64encode(text.encode()).decode()

    def decode(self, text: str) -> str:
        return base64.b64decode(text).decode()


def test_with_a_codec_nothing_of_what_was_not_undone_is_stored_plain(
    app: App, flowgen_database: str, flowgen_worker: Workers, db: Db
) -> None:
    settings = Settings(codec=Base64())
    bookings = Bookings()
    bookings.fails["hotel"] = PermanentError("a secret")

    @app.workflow
    def trip(cancels: bool) -> Flow[None]:
        yield bookings.booked("hotel")
        if cancels:
            yield Sleep(60)
        raise ValueError("another secret")

    flowgen_worker(app, codec=Base64())
    with flowgen.connect(flowgen_database, settings=settings) as client:
        run = client.start(trip, True)
        cancelled(client, run)
        failed = client.start(trip, False)
        with pytest.raises(RunFailed, match="another secret"):
            failed.result(timeout=20)
        for each in (run, failed):
            error = each.refresh().error
            assert error is not None
            assert error.details["not_undone"][0]["failure"]["message"] == "a secret"
    stored = db.execute("select string_agg(error::text, ' ') from flowgen.run").fetchone()
    entries = db.execute("select string_agg(value, ' ') from flowgen.entry").fetchone()
    assert "secret" not in f"{stored}{entries}"


def test_a_cancel_while_a_failed_run_is_undone_changes_nothing_and_what_failed_for_good_is_shown(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    bookings = Bookings()
    undoing, go = threading.Event(), threading.Event()
    tries: list[int] = []

    def release(what: str) -> None:
        bookings.seen.append(f"release {what}")
        undoing.set()
        assert go.wait(20)
        flowgen.current().signal.raise_if_aborted()
        bookings.seen.append(f"released {what}")

    def refuse(what: str) -> None:
        tries.append(flowgen.current().attempt)
        raise OSError("the airline does not answer")

    @app.workflow
    def slow_refund() -> Flow[None]:
        yield Sleep(hours=1)

    @app.workflow
    def trip() -> Flow[None]:
        yield bookings.booked("hotel")
        yield Step(bookings.book, "tour").opts(name="tour", compensate=Invoke(slow_refund))
        flight = Step(bookings.book, "flight").opts(name="flight")
        yield flight.opts(compensate=lambda what: Step(refuse, what).opts(retry=Retry(2, initial=0.01)))
        yield Step(bookings.book, "car").opts(name="car", compensate=lambda what: Step(release, what))
        raise ValueError("no visa")

    flowgen_worker(app)
    run = flowgen_client.start(trip)
    assert undoing.wait(20)
    flowgen_client.cancel(run.id, reason="enough")
    go.set()
    eventually(lambda: any(each.name == "slow_refund" for each in flowgen_client.list()), 20)
    flowgen_client.cancel(run.id, reason="really enough")
    with pytest.raises(RunFailed, match="ValueError: no visa") as failed:
        run.result(timeout=20)
    assert bookings.seen == ["release car", "released car", "hotel"]
    assert tries == [1, 2]
    shown = {each["key"]: each["failure"]["type"] for each in failed.value.failure.details["not_undone"]}
    assert shown == {"flight": "OSError", "tour": "RunCancelled"}
    items = [item for item in flowgen_client.history(run.id) if item.path.endswith("#undo")]
    ends = {item.path: item.outcome for item in items if item.kind == "outcome"}
    assert list(ends) == ["car#undo", "flight#undo", "tour#undo", "hotel#undo"]
    assert (ends["car#undo"], ends["flight#undo"], ends["hotel#undo"]) == ("value", "failure", "value")
    (error,) = [item.error for item in items if item.path == "flight#undo" and item.kind == "outcome"]
    assert error is not None
    assert (error.type, error.message) == ("OSError", "the airline does not answer")
    assert [item.kind for item in items if item.path == "flight#undo"] == ["attempt", "outcome"]


def test_what_was_undone_while_its_run_was_cancelled_survives_a_killed_worker(
    program: Program, flowgen_client: Client
) -> None:
    program.write("""
def book(what):
    return what

def cancel(what):
    note(f"cancel {what}")
    if what == "b":
        gate("open", 60)

@workflow
def trip() -> Flow[None]:
    for what in "abc":
        yield from Step(book, what).opts(compensate=lambda booked: Step(cancel, booked))
    try:
        yield Sleep(hours=1)
    finally:
        yield Step(note, "cleaned")
""")
    first = program.start()
    run = flowgen_client.start(flowgen.call("trip"))
    eventually(lambda: run.refresh().status == "waiting")
    flowgen_client.cancel(run.id, reason="enough")
    program.noted("cancel b")
    first.kill()
    program.open("open")
    program.start()
    with pytest.raises(RunCancelled, match="enough"):
        run.result(timeout=30)
    assert program.notes() == ["cleaned", "cancel c", "cancel b", "cancel b", "cancel a"]


def test_transactions_and_children_are_undone_and_undo_like_steps(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    db.execute("create table ledger (what text primary key)")
    seen: list[str] = []

    def enter(conn: Db, what: str) -> str:
        conn.execute("insert into ledger values (%s)", (what,))
        return what

    def strike(conn: Db, what: str) -> None:
        assert conn.execute("delete from ledger where what = %s", (what,)).rowcount == 1

    @app.workflow
    def child(what: str) -> Flow[str]:
        yield Transaction(enter, what).opts(compensate=Transaction(strike, what))
        yield Sleep(0)
        if what == "c":
            raise ValueError("no seat")
        return what

    def note(what: str) -> None:
        seen.append(what)

    @app.workflow
    def trip() -> Flow[None]:
        yield Transaction(enter, "a").opts(compensate=lambda what: Transaction(strike, what))
        yield Invoke(child, "b").opts(compensate=lambda what: Gather(Transaction(strike, what), Step(note, what)))
        yield Step(enter_kept).opts(compensate=lambda kept: None)
        yield Invoke(child, "c").opts(compensate=Step(note, "c"))

    def enter_kept() -> str:
        db.execute("insert into ledger values ('kept')")
        return "kept"

    flowgen_worker(app)
    run = flowgen_client.start(trip)
    with pytest.raises(RunFailed, match="Child run failed: ValueError: no seat"):
        run.result(timeout=20)
    assert db.execute("select what from ledger").fetchall() == [("kept",)]
    assert seen == ["b"], "a child that failed is undone by its own handler"
    undone = [item.path for item in flowgen_client.history(run.id) if "#undo" in item.path and item.kind == "outcome"]
    assert undone[-1] == "enter#undo"
    assert sorted(undone[:-1]) == ["child#undo/0/strike", "child#undo/1/note"]
