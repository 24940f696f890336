"""New code under running workflows: what `Patch` says to runs of before a deploy, and the same in other spellings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

import flowgen
from flowgen import App, Flow, Gather, Invoke, Patch, RunQuery, Scope, Sleep, Step
from flowgen.client.sync import Client
from flowgen.testing.clock import Clock
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program
from tests.waiting import eventually


def waiting(client: Client, *runs: Any) -> None:
    eventually(lambda: all(run.refresh().status == "waiting" for run in runs), 20)


def test_a_deploy_lets_runs_past_the_change_end_the_old_way_and_all_others_take_the_new_one(
    flowgen_client: Client, flowgen_worker: Workers, flowgen_clock: Clock
) -> None:
    called: Counter[tuple[str, str]] = Counter()

    def charge(order: str) -> str:
        called[order, "charge"] += 1
        return f"ch_{order}"

    def reserve(order: str) -> None:
        called[order, "reserve"] += 1

    def version(handler: Callable[..., Any]) -> App:
        app = App()
        app.workflow(handler, name="checkout")
        return app

    def first(order: str) -> Flow[str]:
        if order == "before":
            yield Sleep(hours=1)
        charged = yield from Step(charge, order)
        yield Sleep(hours=2 if order == "past" else 9)
        return f"old {charged}"

    def second(order: str) -> Flow[str]:
        if order == "before":
            yield Sleep(hours=1)
        new = yield from Patch("reserve-first")
        if new:
            yield Step(reserve, order)
        charged = yield from Step(charge, order)
        yield Sleep(hours=2 if order == "past" else 9)
        again = yield from Patch("reserve-first")
        return f"{'new' if new else 'old'} {charged} {again}"

    def third(order: str) -> Flow[str]:
        if order == "before":
            yield Sleep(hours=1)
        yield Step(reserve, order)
        charged = yield from Step(charge, order)
        yield Sleep(hours=2 if order == "past" else 9)
        return f"third {charged}"

    old = flowgen_worker(version(first))
    runs = {
        each: flowgen_client.start(flowgen.call("checkout", order=each).opts(id=each)) for each in ("past", "before")
    }
    waiting(flowgen_client, *runs.values())
    old.stop()
    runs["late"] = flowgen_client.start(flowgen.call("checkout", order="late").opts(id="late"))

    new = flowgen_worker(version(second))
    eventually(lambda: called["late", "charge"] == 1, 20)
    flowgen_clock.advance("61m")
    eventually(lambda: called["before", "charge"] == 1, 20)
    flowgen_clock.advance("60m")
    assert runs["past"].result(timeout=20) == "old ch_past False"
    new.stop()
    assert called == {
        ("past", "charge"): 1, ("before", "reserve"): 1, ("before", "charge"): 1,
        ("late", "reserve"): 1, ("late", "charge"): 1,
    }  # fmt: skip

    # Nobody is past the change any more: the next deploy forgets it, under runs that have it in their history.
    flowgen_worker(version(third))
    flowgen_clock.advance("10h")
    assert runs["before"].result(timeout=20) == "third ch_before"
    assert runs["late"].result(timeout=20) == "third ch_late"
    assert set(called.values()) == {1}
    patches = {each: [item.value for item in flowgen_client.history(each) if item.command == "patch"] for each in runs}
    assert patches == {"past": [], "before": [True], "late": [True]}
    assert flowgen_client.count(RunQuery(status="parked")) == 0


def test_an_answer_of_a_patch_survives_a_killed_worker(program: Program, flowgen_client: Client) -> None:
    source = """
from flowgen import Patch

def work(what):
    note(f"begins {what}")
    if what == "new":
        gate("go")
    return what

@workflow
def checkout() -> Flow[str]:
    yield Sleep(0.01)
    if (yield from Patch("new")):
        return (yield from Step(work, "new").opts(name="new"))
    return (yield from Step(work, "old").opts(name="old"))
"""
    program.write(source)
    first = program.start()
    run = flowgen_client.start(flowgen.call("checkout"))
    program.noted("begins new")
    first.kill()
    program.start()
    program.noted("begins new", 2)
    program.open("go")
    assert run.result(timeout=20) == "new"
    assert "begins old" not in program.notes()


def step(n: int) -> int:
    flowgen.current().services[f"{flowgen.current().run_id} {n}"] += 1
    return n


def child(n: int) -> int:
    return n


def of_two() -> Flow[int]:
    yield Step(step, 2)
    return 2


def plain() -> Flow[list[int]]:
    one: int = yield Step(step, 1)
    yield Sleep(hours=1)
    both: tuple[int, int] = yield Gather(of_two(), Invoke("child", 3))
    four: int = yield Scope("named", Step(step, 4))
    return [one, *both, four]


def delegated() -> Flow[list[int]]:
    one = yield from Step(step, 1)
    yield from Sleep(hours=1)
    both = yield from Gather(of_two(), Invoke("child", 3))
    return [one, *both, (yield from Scope("named", Step(step, 4)))]


async def awaited() -> list[int]:
    one = await Step(step, 1)
    await Sleep(hours=1)
    both = await Gather(of_two(), Invoke("child", 3))
    return [one, *both, await Scope("named", Step(step, 4))]


def test_a_run_goes_on_under_each_spelling_whichever_it_was_begun_under(
    flowgen_client: Client, flowgen_worker: Workers, flowgen_clock: Clock
) -> None:
    called: Counter[str] = Counter()
    changes = {
        f"{one.__name__}, then {two.__name__}": (one, two)
        for one, two in product((plain, delegated, awaited), repeat=2)
    }

    def version(number: int) -> App:
        app = App(services=called)
        app.task(child)
        for name, handlers in changes.items():
            app.workflow(handlers[number], name=name)
        return app

    old = flowgen_worker(version(0))
    runs = [flowgen_client.start(flowgen.call(name).opts(id=name)) for name in changes]
    waiting(flowgen_client, *runs)
    old.stop()
    flowgen_worker(version(1))
    flowgen_clock.advance("61m")
    assert [run.result(timeout=20) for run in runs] == [[1, 2, 3, 4]] * len(changes)
    assert set(called.values()) == {1}
    assert len(called) == 3 * len(changes)
    histories = [
        sorted((item.path, item.command) for item in flowgen_client.history(run.id) if item.kind == "outcome")
        for run in runs
    ]
    assert all(each == histories[0] for each in histories), "one engine, one history"


@pytest.mark.parametrize("cache", [0, 1000])
def test_a_change_in_branches_and_loops_has_one_answer_in_a_run(
    app: App, flowgen_client: Client, flowgen_worker: Workers, cache: int
) -> None:
    def branch(n: int) -> Flow[bool]:
        yield Sleep(0.01 * n)
        return (yield from Patch("change"))

    @app.workflow
    def flow() -> Flow[list[bool]]:
        answers = list((yield from Gather(*[branch(n) for n in range(3)])))
        for _ in range(3):
            answers.append((yield from Patch("change")))
            yield Sleep(0)
        return answers

    flowgen_worker(app, cache=cache)
    run = flowgen_client.start(flow)
    assert run.result(timeout=20) == [True] * 6
    recorded = [item for item in flowgen_client.history(run.id) if item.command == "patch"]
    assert {item.value for item in recorded} == {True}
    assert all(item.path.startswith("gather/") for item in recorded), "the loop asked for what was known"
