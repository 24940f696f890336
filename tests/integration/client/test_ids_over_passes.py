"""An id stands for what the run was started with, also when the run went on as new since."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import ContinueAsNew, Flow, Invoke, RunExists, Settings, Start, Wait, WaitSignal
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.e2e.test_codec import ToyCipher
from tests.waiting import eventually

Db = psycopg.Connection[Any]
Counter = flowgen.Workflow[..., Any, int]
ID = "customer-7"


@pytest.fixture
def counter(app: flowgen.App) -> Counter:
    @app.workflow
    def counter(n: int) -> Flow[int]:
        if n < 3:
            return (yield from ContinueAsNew(n + 1))
        yield from WaitSignal("end")
        return n

    return counter


@pytest.fixture
def parent(app: flowgen.App, counter: Counter) -> flowgen.Workflow[..., Any, int]:
    @app.workflow
    def parent(how: str, n: int) -> Flow[int]:
        if how == "invoke":
            return (yield from Invoke(counter, n).opts(id=ID))
        ref = yield from Start(counter, n).opts(id=ID)
        return (yield from Wait(ref))

    return parent


def refused(n: int) -> str:
    """What is said of a start with `n`."""
    return (
        rf"'{ID}' exists: it is counter with the input \{{\"n\":1\}} of its first pass, "
        rf"and counter with the input \{{\"n\":{n}\}} was to be started"
    )


def at_the_last_pass(client: Any) -> None:
    eventually(lambda: client.get(ID).input == {"n": 3} and client.get(ID).status == "waiting")


def test_the_first_input_attaches_and_no_later_one(
    verbs: Any, counter: Counter, app: flowgen.App, flowgen_worker: Workers
) -> None:
    flowgen_worker(app)
    first = verbs.start(counter.call(1).opts(id=ID))

    def check() -> None:
        again = verbs.start(counter.call(1).opts(id=ID))
        assert (again.attached, again.uuid, again.input) == (True, first.uuid, {"n": 3})
        assert again.row == verbs.get(ID).row
        [many, _] = verbs.start_many([counter.call(1).opts(id=ID), counter.call(n=1).opts(id=ID)])
        assert (many.attached, many.uuid) == (True, first.uuid)
        for n in (3, 2, 7):
            with pytest.raises(RunExists, match=refused(n)):
                verbs.start(counter.call(n).opts(id=ID))
            with pytest.raises(RunExists, match=refused(n)):
                verbs.start_many([counter.call(1), counter.call(n).opts(id=ID)])

    at_the_last_pass(verbs)
    check()
    verbs.signal(ID, "end")
    assert verbs.result(ID, timeout=20) == 3
    check()
    assert verbs.count() == 1


def test_a_start_from_sql_compares_with_the_first_input(
    client: Client, counter: Counter, app: flowgen.App, flowgen_worker: Workers, db: Db
) -> None:
    flowgen_worker(app)
    assert db.execute("""SELECT flowgen.start('counter', '{"n": 1}', %s)""", (ID,)).fetchone() == (ID,)
    at_the_last_pass(client)
    for spelling in ('{"n": 1}', '{"n":1}'):
        assert db.execute("SELECT flowgen.start('counter', %s, %s)", (spelling, ID)).fetchone() == (ID,)
    assert client.start(counter.call(1).opts(id=ID)).attached
    for n in (3, 2, 7):
        said = rf"it is counter with the input \{{\"n\": 1\}} of its first pass, not counter with \{{\"n\": {n}\}}"
        with pytest.raises(psycopg.errors.UniqueViolation, match=said):
            db.execute("SELECT flowgen.start('counter', %s, %s)", (f'{{"n": {n}}}', ID))


@pytest.mark.bad_input("B47")
@pytest.mark.parametrize("codec", [None, ToyCipher()], ids=["plain", "sealed"])
def test_a_child_with_an_id_compares_with_the_first_input(
    flowgen_database: str, counter: Counter, parent: Any, app: flowgen.App, flowgen_worker: Workers, codec: Any
) -> None:
    flowgen_worker(app, codec=codec)
    with flowgen.connect(flowgen_database, app=app, settings=Settings(codec=codec)) as client:
        began = client.start(parent, "start", 1)
        at_the_last_pass(client)
        again = [client.start(parent, how, 1) for how in ("invoke", "start")]
        others = [client.start(parent, how, n) for how in ("invoke", "start") for n in (3, 2, 7)]
        for run in others:
            with pytest.raises(flowgen.RunFailed) as failed:
                run.result(timeout=20)
            said = str(failed.value.failure)
            assert "RunExists" in said
            assert """it is 'counter' with the input {"n":1} of its first pass, not 'counter' with {"n":""" in said
        assert client.get(ID).parent_id == began.uuid
        eventually(lambda: all(run.refresh().status == "waiting" for run in again))
        client.signal(ID, "end")
        assert [run.result(timeout=20) for run in (began, *again)] == [3, 3, 3]


@pytest.fixture
def sealing(flowgen_database: str, app: flowgen.App) -> Iterator[Client]:
    with flowgen.connect(flowgen_database, app=app, settings=Settings(codec=ToyCipher())) as made:
        yield made


def test_sealed_inputs_compare_with_the_first_one(
    sealing: Client, client: Client, counter: Counter, app: flowgen.App, flowgen_worker: Workers, db: Db
) -> None:
    flowgen_worker(app, codec=ToyCipher())
    sealing.start(counter.call(1).opts(id=ID))
    at_the_last_pass(sealing)
    again = sealing.start(counter.call(1).opts(id=ID))
    assert (again.attached, again.input) == (True, {"n": 3})
    for n in (3, 2, 7):
        with pytest.raises(RunExists, match=refused(n)):
            sealing.start(counter.call(n).opts(id=ID))
    with pytest.raises(RunExists, match="it is counter with the input encoded with 'toy' of its first pass"):
        client.start(counter.call(1).opts(id=ID))


def test_a_first_input_in_plain_compares_when_later_ones_are_sealed(
    sealing: Client, client: Client, counter: Counter, app: flowgen.App, flowgen_worker: Workers, db: Db
) -> None:
    client.start(counter.call(1).opts(id=ID))
    flowgen_worker(app, codec=ToyCipher())
    at_the_last_pass(sealing)
    assert client.get(ID).input == "encoded with 'toy'"
    for each in (sealing, client):
        assert each.start(counter.call(1).opts(id=ID)).attached
    assert db.execute("""SELECT flowgen.start('counter', '{"n": 1}', %s)""", (ID,)).fetchone() == (ID,)


def test_a_child_is_the_same_in_whatever_pass_of_its_parent(
    client: Client, counter: Counter, app: flowgen.App, flowgen_worker: Workers
) -> None:
    @app.workflow
    def keeper(n: int) -> Flow[int]:
        yield from Start(counter, 1).opts(id=ID, detached=True)
        yield from WaitSignal("next")
        return n if n == 2 else (yield from ContinueAsNew(n + 1))

    flowgen_worker(app)
    run = client.start(keeper.call(1).opts(id="keeper"))
    at_the_last_pass(client)
    client.signal("keeper", "next")
    client.signal("keeper", "next")
    assert run.result(timeout=20) == 2
