"""Children with an id of the author's: started once, attached when they exist, refused when they are another's."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from flowgen import App, ChildFailed, ChildTimedOut, Flow, Gather, Invoke, RunFailed, Sleep, Start, Step, Wait
from flowgen.client.queries import RunQuery
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.waiting import eventually


@pytest.fixture
def calls(app: App) -> list[int]:
    calls: list[int] = []

    @app.task
    def double(n: int) -> int:
        calls.append(n)
        return 2 * n

    return calls


def test_a_child_with_an_id_is_started_and_found_under_it(
    app: App, flowgen_client: Client, flowgen_worker: Workers, calls: list[int]
) -> None:
    @app.workflow
    def parent() -> Flow[list[Any]]:
        one = yield Invoke("double", n=1).opts(id="one")
        ref = yield Start("double", n=2).opts(id="two")
        two = yield Wait(ref)
        many = yield Gather(*[Invoke("double", n=n).opts(id=f"many {n}") for n in range(3, 6)])
        return [one, ref.id, two, *many]

    flowgen_worker(app)
    run = flowgen_client.start(parent)
    assert run.result(timeout=15) == [2, "two", 4, 6, 8, 10]
    assert flowgen_client.get("one").parent_id == run.uuid
    assert sorted(calls) == [1, 2, 3, 4, 5]


def test_a_timeout_cancels_the_parent_s_own_child_and_no_run_that_it_found(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow
    def long(n: int) -> Flow[int]:
        yield Sleep(60)
        return n

    @app.workflow
    def parent(id: str) -> Flow[str]:
        try:
            yield from Invoke(long, 7).opts(id=id, timeout=0.3)
        except ChildTimedOut:
            return "timed out"
        return "done"

    flowgen_worker(app)
    found = flowgen_client.start(long.call(7).opts(id="found"))
    assert flowgen_client.start(parent, "found").result(timeout=15) == "timed out"
    assert flowgen_client.start(parent, "own").result(timeout=15) == "timed out"
    eventually(lambda: flowgen_client.get("own").status == "cancelled")
    assert found.refresh().status == "waiting"


def test_parents_that_ask_for_one_id_share_one_run(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    go_on = threading.Event()
    calls: list[str] = []

    @app.task
    def shared(n: int) -> int:
        calls.append("shared")
        go_on.wait(20)
        return n

    @app.workflow
    def parent(how: str) -> Flow[int]:
        if how == "invoke":
            return (yield from Invoke(shared, 7).opts(id="shared"))
        ref = yield from Start(shared, 7).opts(id="shared")
        return (yield from Wait(ref))

    flowgen_worker(app)
    flowgen_worker(app)
    runs = flowgen_client.start_many([parent.call("invoke" if n % 2 else "start") for n in range(20)])
    eventually(lambda: flowgen_client.count(RunQuery(name="parent", status="waiting")) == 20)
    go_on.set()
    assert [run.result(timeout=15) for run in runs] == [7] * 20
    assert calls == ["shared"]
    late = flowgen_client.start(parent, "invoke")
    assert late.result(timeout=15) == 7, "a run that has ended answers at once"
    assert calls == ["shared"]


def test_a_run_that_a_client_started_is_attached(
    app: App, flowgen_client: Client, flowgen_worker: Workers, calls: list[int]
) -> None:
    @app.workflow
    def parent() -> Flow[int]:
        doubled: int = yield Invoke("double", n=4).opts(id="four")
        return doubled

    first = flowgen_client.start(app.definition("double").call(4).opts(id="four"))
    flowgen_worker(app)
    assert first.result(timeout=15) == 8
    assert flowgen_client.start(parent).result(timeout=15) == 8
    assert calls == [4]


@pytest.mark.bad_input("B47")
@pytest.mark.parametrize("how", ["invoke", "start"])
def test_a_conflict_is_a_failure_that_names_the_existing_run(
    app: App, flowgen_client: Client, flowgen_worker: Workers, calls: list[int], how: str
) -> None:
    command = Invoke if how == "invoke" else Start

    @app.workflow
    def catches() -> Flow[str]:
        try:
            yield command("double", n=2).opts(id="taken")
        except ChildFailed as error:
            yield Sleep(0.01)
            return str(error)
        return ""

    @app.workflow
    def lets_go() -> Flow[None]:
        yield command("double", n=2).opts(id="taken")

    flowgen_worker(app)
    flowgen_client.start(app.definition("double").call(1).opts(id="taken")).result(timeout=10)
    said = flowgen_client.start(catches).result(timeout=10)
    for part in ("RunExists", "'taken'", "'double'", '{"n":1}', '{"n":2}'):
        assert part in said
    with pytest.raises(RunFailed, match="RunExists"):
        flowgen_client.start(lets_go).result(timeout=10)
    assert calls == [1]


@pytest.mark.bad_input("B46", "B47")
def test_a_run_that_would_wait_for_itself_is_refused(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    @app.workflow
    def snake(n: int) -> Flow[None]:
        yield Invoke(snake, n).opts(id="snake")

    flowgen_worker(app)
    with pytest.raises(RunFailed, match="never end"):
        flowgen_client.start(snake.call(1).opts(id="snake")).result(timeout=10)


def test_a_timeout_of_a_child_with_an_id_is_kept(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    @app.workflow
    def endless() -> Flow[None]:
        yield Sleep(hours=1)

    @app.workflow
    def parent() -> Flow[str]:
        try:
            yield from Invoke(endless).opts(id="endless", timeout=0.3)
        except ChildTimedOut as error:
            return type(error).__name__
        return ""

    flowgen_worker(app)
    assert flowgen_client.start(parent).result(timeout=10) == "ChildTimedOut"
    eventually(lambda: flowgen_client.get("endless").status == "cancelled")


def test_a_child_with_an_id_beside_steps_and_other_children(
    app: App, flowgen_client: Client, flowgen_worker: Workers, calls: list[int]
) -> None:
    def plain(n: int) -> int:
        return n

    @app.workflow
    def parent(n: int) -> Flow[list[Any]]:
        return list(
            (
                yield Gather(
                    Invoke("double", n=n).opts(id=f"id {n}"),
                    Step(plain, n),
                    Invoke("double", n=n),
                    Sleep(0.01),
                    Invoke("double", n=n + 1).opts(id=f"id {n + 1}"),
                )
            )
        )

    flowgen_worker(app, cache=0)
    runs = flowgen_client.start_many([parent.call(n) for n in range(30)])
    assert [run.result(timeout=5) for run in runs] == [[2 * n, n, 2 * n, None, 2 * n + 2] for n in range(30)]
    assert sorted(calls) == sorted([*range(31), *range(30)])


@pytest.mark.parametrize("how", ["invoke", "start"])
def test_a_run_is_attached_whatever_the_spelling_of_its_input(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: psycopg.Connection[Any], how: str
) -> None:
    command = Invoke if how == "invoke" else Start

    @app.task
    def pair(a: int, b: str) -> str:
        return f"{a}{b}"

    @app.workflow
    def parent(a: int) -> Flow[Any]:
        found = yield command(pair, a, "é").opts(id="pair")
        return found if how == "invoke" else (yield Wait(found))

    flowgen_worker(app)
    db.execute("""SELECT flowgen.start('pair', '{ "b": "\\u00e9", "a" : 1}', 'pair', kind => 'task')""")
    assert flowgen_client.start(parent, 1).result(timeout=15) == "1é"
    with pytest.raises(RunFailed, match="RunExists"):
        flowgen_client.start(parent, 2).result(timeout=15)
