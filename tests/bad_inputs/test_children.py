"""Children without an end, children that wait for those above them, and very many children."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import App, Flow, Gather, Invoke, RunFailed, Sleep, Start, Step, Wait
from flowgen.client.queries import RunQuery
from flowgen.client.sync import Client
from flowgen.core.semantics import children
from flowgen.testing.workers import Workers
from flowgen.worker import making
from tests.waiting import eventually


def child(n: int) -> int:
    return n


@pytest.mark.bad_input("B46")
def test_a_recursion_of_children_without_an_end_fails_at_the_greatest_depth_with_the_chain_of_names(
    app: App, flowgen_client: Client, flowgen_worker: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (children.MAX_DEPTH, making.NEAR) == (100, 92)
    monkeypatch.setattr(children, "MAX_DEPTH", 20)
    monkeypatch.setattr(making, "NEAR", 12)
    caught: list[tuple[int, str]] = []

    @app.workflow
    def ping(n: int) -> Flow[int]:
        try:
            return (yield from Invoke(pong, n + 1))
        except flowgen.DefinitionError as error:
            caught.append((n, str(error)))
            raise

    @app.workflow
    def pong(n: int) -> Flow[int]:
        ref = yield from Start(ping, n + 1)
        return (yield from Wait(ref))

    flowgen_worker(app)
    with pytest.raises(RunFailed) as failed:
        flowgen_client.start(ping, 0).result(timeout=60)
    assert (
        "DefinitionError: Invoke(pong) would be a child of depth 21, and 20 is the most: ... -> ping -> pong -> ping "
        "-> pong -> ping -> pong -> ping -> pong -> ping -> pong. Does it end? Give the recursion an end, loop "
        "instead, or use Start(...).opts(detached=True), which counts from 0"
    ) in str(failed.value)
    assert [n for n, _ in caught] == [20], "it is thrown at the yield"
    assert caught[0][1] in str(failed.value)
    assert flowgen_client.count(RunQuery(status=["pending", "running", "waiting"])) == 0
    assert flowgen_client.count() == 21


@pytest.mark.bad_input("B46")
def test_detached_children_start_each_other_as_long_as_they_like(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: psycopg.Connection[Any]
) -> None:
    @app.workflow
    def relay(n: int) -> Flow[int]:
        if n < 5:
            yield Start(relay, n + 1).opts(detached=True, id=f"relay {n + 1}")
        return n

    flowgen_worker(app)
    flowgen_client.start(relay, 0)
    last = eventually(lambda: flowgen_client.get("relay 5"), timeout=30)
    assert last.result(timeout=15) == 5
    assert db.execute("select max(depth) from flowgen.run").fetchone() == (0,)


@pytest.mark.bad_input("B46", "B47")
def test_a_run_that_would_wait_for_one_that_waits_for_it_is_refused(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow
    def link(ids: list[str]) -> Flow[str]:
        if ids:
            return (yield from Invoke(link, ids[1:]).opts(id=ids[0]))
        return "the end"

    flowgen_worker(app)
    assert flowgen_client.start(link, ["r", "s", "t"]).result(timeout=10) == "the end"
    grandparent = flowgen_client.start(link.call(["a", "b", "c", "a"]).opts(id="top"))
    with pytest.raises(RunFailed) as failed:
        grandparent.result(timeout=10)
    assert "ChildFailed: Child run failed: RunExists: the run 'a' (link) waits for this one (link), itself or" in str(
        failed.value
    )
    assert "or is this one: it would never end" in str(failed.value)
    with pytest.raises(RunFailed, match="the run 'itself' .* or is this one: it would never end"):
        flowgen_client.start(link.call(["itself"]).opts(id="itself")).result(timeout=10)


@pytest.mark.bad_input("B46")
def test_two_runs_that_wait_for_each_other_by_their_ids_do_not_wait_for_ever(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow
    def asks(other: str) -> Flow[str]:
        return (yield from Invoke(app.definition("asks"), "left" if other == "right" else "right").opts(id=other))

    flowgen_worker(app)
    runs = flowgen_client.start_many([asks.call("right").opts(id="left"), asks.call("left").opts(id="right")])
    told = []
    for run in runs:
        with pytest.raises(RunFailed) as failed:
            run.result(timeout=10)
        told.append(str(failed.value))
    assert sum("itself or through others" in each for each in told) == 2


@pytest.mark.bad_input("B48")
def test_very_many_children_of_one_gather_are_made_five_hundred_in_one_commit(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: psycopg.Connection[Any]
) -> None:
    @app.workflow
    def wide(count: int) -> Flow[int]:
        refs = yield from Gather(*[Start("elsewhere", n) for n in range(count)])
        return len({ref.run_id for ref in refs})

    @app.workflow
    def neighbour() -> Flow[int]:
        return (yield from Step(child, 1))

    flowgen_worker(app, cache=0)
    run, beside = flowgen_client.start_many([wide.call(2100), neighbour.call()])
    assert run.result(timeout=30) == 2100
    assert beside.result(timeout=30) == 1
    commits = db.execute("select count(*) from flowgen.entry where run_id = %s group by xmin", (run.uuid,)).fetchall()
    assert sorted(count for (count,) in commits) == [100, 500, 500, 500, 500]
    assert flowgen_client.count(RunQuery(parent=run.id)) == 2100
    indexes = [item.index for item in flowgen_client.history(run.id)]
    assert indexes == [*range(1, 2101)]


@pytest.mark.bad_input("B48")
def test_a_wide_gather_of_letters_and_timers_goes_on_when_its_parts_are_committed(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    app.task(child)

    @app.workflow
    def waits(count: int) -> Flow[int]:
        yield Gather(*[Sleep(0.001) for _ in range(count)])
        done = yield from Gather(*[Invoke("child", n=n) for n in range(count)])
        return sum(done)

    flowgen_worker(app)
    assert flowgen_client.start(waits, 1100).result(timeout=60) == sum(range(1100))
