"""Branches of every sort on a real worker: nested flows, their keys, what is empty, and who loses."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import (
    App,
    Context,
    DefinitionError,
    Failure,
    Flow,
    Gather,
    Graph,
    Invoke,
    Map,
    PermanentError,
    Race,
    RunFailed,
    RunQuery,
    Scope,
    Sleep,
    Step,
    StepFailed,
    WaitEvent,
    WaitSignal,
)
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program
from tests.waiting import eventually

Db = psycopg.Connection[Any]


def test_the_keys_of_branches_do_not_depend_on_who_is_first(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    """The first run's branches end in one order, the second's in the opposite one."""
    doors = {name: threading.Event() for name in ("plain forth", "flow forth", "plain back", "flow back")}

    def step(way: str, n: int) -> int:
        first = "plain" if way == "forth" else "flow"
        mine = "plain" if n == 1 else "flow" if n == 2 else None
        if mine is not None and mine != first:
            assert doors[f"{first} {way}"].wait(20)
        return n

    def done(way: str, which: str) -> None:
        doors[f"{which} {way}"].set()

    @app.workflow
    def inline(way: str) -> Flow[int]:
        two = yield from Step(step, way, 2)
        yield Step(done, way, "flow")
        return two + (yield from Step(step, way, 3))

    def plain(way: str) -> Flow[int]:
        one = yield from Step(step, way, 1)
        yield Step(done, way, "plain")
        yield Sleep(0.01)
        return one

    def each(n: int) -> Flow[int]:
        yield Sleep(0.001 * n)
        return (yield from Step(step, "", 10 * n))

    @app.task
    def child(n: int) -> int:
        return n

    @app.workflow
    def flow(way: str) -> Flow[list[Any]]:
        found = yield from Gather(
            plain(way),
            inline(way),
            Scope("named", Gather(Step(step, "", 4), Invoke(child, 5))),
            Map(each, [3, 2, 1], limit=2),
            Race(never=Sleep(3600), now=Scope("deep", each(0))),
            Graph(Step(step, "", 6), Scope("after", each(7)).opts(after=step)),
        )
        *most, won, graph = found
        return [*most, [won.tag, won.value], dict(graph)]

    flowgen_worker(app)
    runs = {way: flowgen_client.start(flow, way) for way in ("forth", "back")}
    wanted = [1, 5, [4, 5], [30, 20, 10], ["now", 0], {"step": 6, "after": 70}]
    assert [run.result(timeout=30) for run in runs.values()] == [wanted, wanted]
    paths = {
        way: [item.path for item in flowgen_client.history(run.id) if item.kind == "outcome"]
        for way, run in runs.items()
    }
    forth, back = paths["forth"], paths["back"]
    assert sorted(forth) == sorted(back)
    first, second = "gather/0/step", "gather/1/step"
    assert forth.index(first) < forth.index(second)
    assert back.index(first) > back.index(second)
    assert set(forth) == {
        "gather/0/step", "gather/0/done", "gather/0/sleep",
        "gather/1/step", "gather/1/done", "gather/1/step#2",
        "gather/2/named/gather/0/step", "gather/2/named/gather/1/child",
        *(f"gather/3/map/{n}/{what}" for n in range(3) for what in ("sleep", "step")),
        "gather/4/race/now/deep/sleep", "gather/4/race/now/deep/step",
        "gather/5/graph/step", "gather/5/graph/after/sleep", "gather/5/graph/after/step",
    }  # fmt: skip


def test_what_is_empty_returns_at_once(app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db) -> None:
    def step(n: int) -> int:
        return n

    @app.workflow
    def empty() -> Flow[list[Any]]:
        gathered = yield from Gather()
        mapped = yield from Map(step, [])
        limited = yield from Map(step, iter(()), limit=3, on_failure="continue")
        graph = yield from Graph()
        nested = yield from Gather(Gather(), Map(step, []), Graph())
        return [list(gathered), mapped, limited, dict(graph), [len(each) for each in nested]]

    @app.workflow
    def nobody_runs() -> Flow[None]:
        yield Race()

    flowgen_worker(app)
    run = flowgen_client.start(empty)
    assert run.result(timeout=20) == [[], [], [], {}, [0, 0, 0]]
    assert flowgen_client.history(run.id) == []
    assert db.execute("select claim from flowgen.run where run_id = %s", (run.uuid,)).fetchone() == (1,)
    with pytest.raises(RunFailed, match="DefinitionError: Race needs a branch that can win"):
        flowgen_client.start(nobody_runs).result(timeout=20)
    with pytest.raises(DefinitionError, match="Race needs a branch that can win"):
        Race()


@pytest.mark.parametrize("cache", [0, 1000])
def test_whoever_wins_the_others_are_cancelled_and_leave_nothing_behind(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db, cache: int
) -> None:
    """Five runs, each won by another of the five; in each the flow that lost cleans up before the race is over."""
    cleaned: list[str] = []
    doors = {winner: threading.Event() for winner in ("child", "step")}

    def clean(winner: str) -> None:
        cleaned.append(winner)

    def quick(winner: str) -> str:
        if winner == "step":
            assert doors["step"].wait(20)
            return "done"
        flowgen.current().signal.wait(30)
        return "too late"

    @app.workflow
    def child(winner: str) -> Flow[str]:
        if winner == "child":
            yield WaitSignal("end")
        else:
            yield Sleep(hours=1)
        return "done"

    def patient(winner: str) -> Flow[None]:
        try:
            yield Sleep(hours=2)
        finally:
            yield Step(clean, winner)

    @app.workflow
    def races(ctx: Context, winner: str) -> Flow[list[Any]]:
        won = yield from Race(
            signal=WaitSignal("go", str),
            event=WaitEvent("news", {"for": winner}),
            sleep=Sleep(0.5 if winner == "sleep" else 3600),
            child=Invoke(child, winner),
            step=Step(quick, winner),
            flow=patient(winner),
        )
        return [won.tag, won.value, (yield from WaitSignal("go", str))]

    flowgen_worker(app, cache=cache)
    winners = ("signal", "event", "sleep", "child", "step")
    runs = {winner: flowgen_client.start(races.call(winner).opts(id=winner)) for winner in winners}
    eventually(lambda: db.execute("select count(*) from flowgen.event_wait").fetchone() >= (4,), 20)
    eventually(lambda: flowgen_client.count(RunQuery(name="child", status="waiting")) >= 4, 20)
    flowgen_client.signal("signal", "go", "first")
    flowgen_client.emit("news", {"for": "event"})
    (ends,) = [each for each in flowgen_client.list(RunQuery(name="child")) if each.input == {"winner": "child"}]
    flowgen_client.signal(ends.id, "end")
    doors["step"].set()
    eventually(lambda: sorted(cleaned) == sorted(winners), 20)
    eventually(lambda: db.execute("select count(*) from flowgen.event_wait").fetchone() == (0,), 20)
    for winner in winners:
        flowgen_client.emit("news", {"for": winner})
        flowgen_client.signal(winner, "go", f"after {winner}")
    found = {winner: run.result(timeout=20) for winner, run in runs.items()}
    values: dict[str, Any] = {"signal": "first", "event": {"for": "event"}, "sleep": None, "child": "done"}
    assert found == {each: [each, values.get(each, "done"), f"after {each}"] for each in winners}
    assert sorted(cleaned) == sorted(winners), "once each"
    states = {each.input["winner"]: str(each.status) for each in flowgen_client.list(RunQuery(name="child"))}
    assert states == {each: "completed" if each == "child" else "cancelled" for each in winners}
    for winner, run in runs.items():
        assert run.refresh().due_at is None
        outcomes = {item.path for item in flowgen_client.history(run.id) if item.kind == "outcome"}
        won = {"signal": "signal:go", "event": "news", "step": "quick"}.get(winner, winner)
        assert outcomes == {f"race/{winner}/{won}", "race/flow/clean", "signal:go"}
    assert db.execute("select count(*) from flowgen.inbox").fetchone() == (0,)


@pytest.mark.parametrize("as_runs", [False, True], ids=["steps", "child runs"])
def test_a_map_ends_with_its_first_failure_or_goes_on_with_the_others(
    app: App, flowgen_client: Client, flowgen_worker: Workers, as_runs: bool
) -> None:
    begun: list[int] = []
    waiting, ended = threading.Event(), threading.Event()

    @app.task
    def work(n: int, waits: bool) -> int:
        begun.append(n)
        if n == 1:
            assert not waits or waiting.wait(20)
            raise PermanentError("one")
        if n == 0 and waits:
            waiting.set()
            flowgen.current().signal.wait(20)
            ended.set()
        return 10 * n

    @app.workflow
    def ends() -> Flow[str]:
        try:
            yield Map(each_waits, range(6), limit=2).opts(as_runs=as_runs)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "no failure"

    @app.task
    def each_waits(n: int) -> int:
        return work.fn(n, True)

    @app.task
    def each(n: int) -> int:
        return work.fn(n, False)

    @app.workflow
    def goes_on() -> Flow[list[Any]]:
        found = yield from Map(each, range(4), limit=2, on_failure="continue").opts(as_runs=as_runs)
        return [str(item) if isinstance(item, Failure) else item for item in found]

    flowgen_worker(app)
    said = flowgen_client.start(ends).result(timeout=20)
    assert said.split(":")[0] == ("ChildFailed" if as_runs else "StepFailed")
    assert said.endswith("PermanentError: one")
    assert ended.wait(20), "what was under way is told"
    assert sorted(begun) == [0, 1], "nothing more is begun"
    assert flowgen_client.start(goes_on).result(timeout=20) == [0, "PermanentError: one", 20, 30]


def test_a_failure_of_a_nested_flow_can_be_caught_where_its_branch_was_opened(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    def fails() -> None:
        raise PermanentError("deep")

    def inner() -> Flow[None]:
        yield Gather(Sleep(hours=1), Scope("deepest", Step(fails)))

    def outer() -> Flow[str]:
        try:
            yield from Gather(inner(), Sleep(hours=1))
        except StepFailed as error:
            return str(error.name)
        return "no failure"

    @app.workflow
    def flow() -> Flow[list[Any]]:
        return list((yield from Gather(outer(), Sleep(0.05))))

    flowgen_worker(app)
    run = flowgen_client.start(flow)
    assert run.result(timeout=20) == ["gather/0/gather/0/gather/1/deepest/fails", None]
    assert run.refresh().due_at is None


def test_a_killed_worker_repeats_only_what_was_under_way_in_any_branch(
    program: Program, flowgen_client: Client
) -> None:
    program.write("""
from flowgen import Map, Race, Scope

def step(what):
    note(f"begins {what}")
    if what in ("flow 1", "item 2"):
        gate("go on")
    note(f"ends {what}")
    return what

def nested(n):
    for k in range(3):
        yield Step(step, f"flow {k}" if n == 0 else f"other {k}")
    return n

@workflow
def flow() -> Flow[list]:
    found = yield from Gather(
        nested(0), Scope("named", nested(1)), Map(step, ["item 1", "item 2", "item 3"], limit=1),
        Race(first=Step(step, "first"), never=Sleep(3600)),
    )
    return [*found[:3], found[3].tag]
""")
    first = program.start()
    run = flowgen_client.start(flowgen.call("flow"))
    for note in ("begins flow 1", "begins item 2"):
        program.noted(note)
    others = {"gather/1/named/step#3", "gather/3/race/first/step"}
    eventually(lambda: others <= {item.path for item in flowgen_client.history(run.id)})
    first.kill()
    program.open("go on")
    program.start()
    assert run.result(timeout=30) == [0, 1, ["item 1", "item 2", "item 3"], "first"]
    notes = program.notes()
    whats = [*(f"{a} {k}" for a in ("flow", "other") for k in range(3)), "item 1", "item 2", "item 3", "first"]
    assert {what: notes.count(f"ends {what}") for what in whats} == dict.fromkeys(whats, 1)
    twice = [what for what in whats if notes.count(f"begins {what}") == 2]
    assert twice == ["flow 1", "item 2"]
