"""The examples do what their first lines say: driven without a database, and on a real server with a real worker."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import App, Checkpoint, ChildFailed, Invoke, RunFailed, Sleep, Step, Transaction
from flowgen.testing import Simulated, drive, simulate

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
WAIT = 60

Load = Callable[[str], tuple[Any, App]]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Import an example with an App of its own, so that the names of one do not meet those of another."""
    loaded = []

    def load(name: str) -> tuple[Any, App]:
        app = App(name=name)
        monkeypatch.setattr(flowgen, "task", app.task)
        monkeypatch.setattr(flowgen, "workflow", app.workflow)
        spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # annotations are looked up there
        loaded.append(spec.name)
        spec.loader.exec_module(module)
        return module, app

    yield load
    for name in loaded:
        del sys.modules[name]


def test_an_order_is_a_charge_and_a_pause(load: Load) -> None:
    shop, _ = load("shop")
    trace = drive(shop.checkout.call("o-1"), outcomes={shop.charge: "ch_1"})
    assert trace.result == "ch_1"
    assert trace.commands == [Step(shop.charge, "o-1", cents=500), Sleep(seconds=2)]


def test_a_trip_is_entered_in_the_books_once_whichever_workers_are_lost(load: Load) -> None:
    trip, _ = load("trip")

    def paid(run: Simulated[Any]) -> None:
        assert run.result.receipt == "Ada paid 900.00"
        assert run.committed == ("enter",)

    def refused(run: Simulated[Any]) -> None:
        assert run.status == "failed"
        assert {each.args for each in run.calls if each.name == "cancel"} == {
            ("flight of Ada to Lisbon",),
            ("hotel of Ada in Lisbon",),
        }
        assert not run.committed

    for cents, invariant in ((90_000, paid), (900_000, refused)):
        call = trip.book_trip.call("Ada", "Lisbon", cents=cents)
        simulate(call, outcomes={trip.enter: None}, invariant=invariant, schedules=15)


def test_an_import_saves_its_place_after_each_page(load: Load) -> None:
    pages, _ = load("import_pages")
    trace = drive(pages.import_file.call("f"), outcomes={pages.count_pages: 2, pages.import_page: [3, 4]})
    assert trace.result == 7
    assert trace.commands == [
        Step(pages.count_pages, "f"),
        Step(pages.import_page, "f", 0),
        Checkpoint(1, 1, 3),
        Step(pages.import_page, "f", 1),
        Checkpoint(2, 2, 7),
    ]


def test_a_trip_is_two_bookings_at_once_and_a_payment(load: Load) -> None:
    trip, _ = load("trip")
    outcomes = {trip.book_flight: "f", trip.book_hotel: "h", trip.pay: "r"}
    trace = drive(trip.book_trip.call("Ada", "Lisbon", 900), outcomes=outcomes)
    assert trace.result == trip.Trip("f", "h", "r")
    assert Invoke(trip.pay, "Ada", 900) in trace.commands


def test_a_payment_is_charged_and_then_entered(load: Load) -> None:
    trip, _ = load("trip")
    trace = drive(trip.pay.call("Ada", 900), outcomes={trip.charge_card: "r", trip.enter: None})
    assert trace.commands == [Step(trip.charge_card, "Ada", 900), Transaction(trip.enter, "r", 900)]


def test_both_bookings_of_a_trip_that_cannot_be_paid_are_cancelled(load: Load) -> None:
    trip, _ = load("trip")
    with drive.manual(trip.book_trip.call("Ada", "Lisbon", 900)) as d:
        d.send("f", to="gather/0/book_flight")
        d.send("h", to="gather/1/book_hotel")
        d.throw(OSError("no card"))
        assert d.commands == [Step(trip.cancel, "f"), Step(trip.cancel, "h")]
        d.send(to="gather#2/0/cancel")
        d.send(to="gather#2/1/cancel")
        with pytest.raises(ChildFailed, match="no card"):
            assert d.result


def test_an_order_is_charged_once_and_its_id_starts_it_once(load: Load, flowgen_database: str) -> None:
    shop, app = load("shop")
    with flowgen.worker(flowgen_database, app=app), flowgen.connect(flowgen_database, app=app) as client:
        order = shop.checkout.call("o-1").opts(id="order-o-1")
        run = client.start(order)
        assert run.result(timeout=WAIT) == "ch_o-1_500"
        again = client.start(order)
        assert again.attached
        assert again.result(timeout=WAIT) == "ch_o-1_500"
        assert [each.path for each in client.history("order-o-1") if each.kind == "outcome"] == ["charge", "sleep"]


def test_an_import_goes_on_with_the_page_that_it_was_at(
    load: Load, flowgen_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages, app = load("import_pages")
    file = tmp_path / "words.txt"
    file.write_text("two words\n" * 2500)
    read: list[int] = []

    def failing_once(lines: Iterable[str], start: int, stop: int) -> Iterator[str]:
        read.append(start)
        if read == [0, 1000]:
            raise flowgen.PermanentError("the disk is gone")
        return islice(lines, start, stop)

    monkeypatch.setattr(pages, "islice", failing_once)
    with flowgen.worker(flowgen_database, app=app), flowgen.connect(flowgen_database, app=app) as client:
        run = client.start(pages.import_file, str(file))
        with pytest.raises(RunFailed, match="the disk is gone"):
            run.result(timeout=WAIT)
        assert client.retry(run.id).result(timeout=WAIT) == 5000
    assert read == [0, 1000, 1000, 2000]


@pytest.fixture
def ledger(flowgen_database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(flowgen_database, autocommit=True) as connection:
        connection.execute("create table ledger (receipt text primary key, cents int not null)")
        yield connection


def test_a_trip_is_booked_and_entered_once(load: Load, flowgen_database: str, ledger: psycopg.Connection[Any]) -> None:
    trip, app = load("trip")
    with flowgen.worker(flowgen_database, app=app), flowgen.connect(flowgen_database, app=app) as client:
        booked = client.start(trip.book_trip, "Ada", "Lisbon", cents=90_000).result(timeout=WAIT)
    assert booked == trip.Trip("flight of Ada to Lisbon", "hotel of Ada in Lisbon", "Ada paid 900.00")
    assert ledger.execute("select * from ledger").fetchall() == [("Ada paid 900.00", 90_000)]


def test_a_trip_that_cannot_be_paid_is_cancelled(
    load: Load, flowgen_database: str, ledger: psycopg.Connection[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    trip, app = load("trip")
    with flowgen.worker(flowgen_database, app=app), flowgen.connect(flowgen_database, app=app) as client:
        run = client.start(trip.book_trip, "Ada", "Lisbon", cents=900_000)
        with pytest.raises(RunFailed, match="Child run failed: .*good for 5000"):
            run.result(timeout=WAIT)
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "cancelled: flight of Ada to Lisbon",
        "cancelled: hotel of Ada in Lisbon",
    ]
    assert ledger.execute("select * from ledger").fetchall() == []
