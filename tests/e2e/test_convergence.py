"""Where the branches of a Graph come together again: what runs, what is skipped and why, what is refused."""

from __future__ import annotations

import itertools
import threading
from typing import Any, Literal

import pytest

from flowgen import App, Choose, Flow, Gather, Graph, PermanentError, RunFailed, Step, StepContext, StepFailed
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers

Rule = Literal["all_done", "all_success", "any_success"]
ENDS = ("ok", "fails", "skipped")


def expected(rule: Rule, one: str, two: str) -> str:
    """What becomes of the node behind two that end so."""
    if rule == "all_done":
        return "runs"
    if rule == "any_success":
        return "runs" if "ok" in (one, two) else "skipped: none of one, two succeeded"
    if "fails" in (one, two):
        return "StepFailed"
    first = "one" if one == "skipped" else "two"
    return "runs" if one == two == "ok" else f"skipped: {first} was skipped"


def test_what_converges_runs_by_its_rule_and_is_skipped_with_the_reason(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.task
    def ends(how: str) -> str:
        if how == "fails":
            raise PermanentError("no")
        return how

    def start() -> None: ...

    @app.task
    def last(ctx: StepContext) -> dict[str, Any]:
        return {key: value for key, value in ctx.dependency_results.items() if key != "start"}

    @app.workflow
    def converges(rule: Rule, one: str, two: str) -> Flow[list[Any]]:
        def wanted(how: str) -> Any:
            return lambda done: how != "skipped"

        try:
            done = yield from Graph(
                Step(start),
                Step(ends, one).opts(name="one", after="start", when=wanted(one)),
                Step(ends, two).opts(name="two", after="start", when=wanted(two)),
                Step(last).opts(after=["one", "two"], join=rule),
                Step(ends, "behind").opts(name="behind", after=[last]),
            )
        except StepFailed as error:
            return [type(error).__name__]
        came = "runs" if last in done else f"skipped: {done.skipped['last']}"
        behind = "runs" if "behind" in done else f"skipped: {done.skipped['behind']}"
        return [came, behind, done["last"] if last in done else None, sorted(done.skipped), sorted(done.failed)]

    flowgen_worker(app)
    rules: tuple[Rule, ...] = ("all_done", "all_success", "any_success")
    cases = [(rule, one, two) for rule in rules for one, two in itertools.product(ENDS, ENDS)]
    runs = flowgen_client.start_many([converges.call(*case) for case in cases])
    for (rule, one, two), run in zip(cases, runs, strict=True):
        found = run.result(timeout=30)
        came = expected(rule, one, two)
        assert found[0] == came, (rule, one, two)
        if came == "StepFailed":
            continue
        _, behind, last_saw, skipped, failed = found
        ended = {"one": one, "two": two}
        assert behind == ("runs" if came == "runs" else "skipped: last was skipped")
        assert last_saw == ({name: how for name, how in ended.items() if how == "ok"} if came == "runs" else None)
        lost = {name for name, how in ended.items() if how == "skipped"}
        assert skipped == sorted(lost if came == "runs" else lost | {"last", "behind"}), (rule, one, two)
        assert failed == sorted(name for name, how in ended.items() if how == "fails")
        recorded = {item.name: item.value for item in flowgen_client.history(run.id) if item.outcome == "skipped"}
        assert sorted(recorded) == skipped
        assert all(recorded[name] == "when= said no" for name in lost)


def test_a_node_runs_as_soon_as_what_it_comes_after_has_ended_whatever_the_others_do(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    """The slow node ends only when what comes behind the quick one has run; both sides then converge."""
    behind_quick = threading.Event()

    def quick() -> str:
        return "quick"

    def slow() -> str:
        assert behind_quick.wait(20)
        return "slow"

    @app.task
    def behind(ctx: StepContext) -> list[str]:
        behind_quick.set()
        return ctx.get_dependency_result_keys()

    @app.task
    def last(ctx: StepContext) -> list[str]:
        return sorted(ctx.get_dependency_result_keys())

    @app.workflow
    def flow() -> Flow[list[Any]]:
        done = yield from Graph(
            Step(last).opts(after=[behind, slow]),
            Step(behind).opts(after=quick),
            Step(quick),
            Step(slow),
        )
        return [list(done), done[behind], done[last]]

    flowgen_worker(app)
    names = ["last", "behind", "quick", "slow"]
    assert flowgen_client.start(flow).result(timeout=30) == [names, ["quick"], ["behind", "quick", "slow"]]


def test_what_a_choice_leaves_out_is_skipped_to_the_end_unless_it_converges_with_what_was_chosen(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    called: list[str] = []

    @app.task
    def route(to: list[str]) -> Choose:
        return Choose(chosen=to)

    def step(what: str) -> str:
        called.append(what)
        return what

    def node(what: str, **options: Any) -> Step[str]:
        return Step(step, what).opts(name=what, **options)

    @app.workflow
    def flow(to: list[str]) -> Flow[dict[str, str]]:
        done = yield from Graph(
            Step(route, to),
            node("air", after="route"),
            node("sea", after="route"),
            node("plane", after="air"),
            node("ship", after="sea"),
            node("arrive", after=["plane", "ship"], join="any_success"),
            node("bill", after=["plane", "ship"], join="all_done"),
        )
        return dict(done.skipped)

    flowgen_worker(app)
    cases: dict[tuple[str, ...], tuple[dict[str, str], list[str]]] = {
        ("air",): (
            {"sea": "route chose air", "ship": "sea was skipped"},
            ["air", "arrive", "bill", "plane"],
        ),
        ("air", "sea"): ({}, ["air", "arrive", "bill", "plane", "sea", "ship"]),
        (): (
            {
                "air": "route chose none",
                "sea": "route chose none",
                "plane": "air was skipped",
                "ship": "sea was skipped",
                "arrive": "none of plane, ship succeeded",
            },
            ["bill"],
        ),
    }
    for chosen, (skipped, ran) in cases.items():
        called.clear()
        assert flowgen_client.start(flow, list(chosen)).result(timeout=20) == skipped
        assert sorted(called) == ran
    with pytest.raises(RunFailed, match="route chose 'ship', which does not come directly after it: air, sea does"):
        flowgen_client.start(flow, ["ship"]).result(timeout=20)


def test_a_graph_that_cannot_be_is_refused_before_anything_of_it_runs(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    called: list[str] = []

    def a() -> None:
        called.append("a")

    def b() -> None:
        called.append("b")

    def c() -> None:
        called.append("c")

    @app.workflow
    def flow(which: str) -> Flow[None]:
        match which:
            case "circle":
                yield Graph(Step(a), Step(b).opts(after=[a, c]), Step(c).opts(after=b))
            case "itself":
                yield Graph(Step(a), Step(b).opts(after=b))
            case "unknown":
                yield Graph(Step(a), Step(b).opts(after="aa"))
            case "twice":
                yield Graph(Step(a), Step(a))
            case _:
                yield Gather(Step(b), Graph(Step(a), Step(a).opts(name="again", after="gone")))

    flowgen_worker(app)
    said = {
        "circle": "Graph: its nodes wait for each other in a circle, b -> c -> b: take one after= away",
        "itself": "Graph: its nodes wait for each other in a circle, b -> b: take one after= away",
        "unknown": "Graph: b comes after 'aa', which is no node: is 'a' meant? Its nodes are 'a', 'b'",
        "twice": "Graph: two nodes are named 'a', Step(a) and Step(a): give each .opts(name=)",
        "inside": "Graph: again comes after 'gone', which is no node: Its nodes are 'a', 'again'",
    }
    for which, message in said.items():
        run = flowgen_client.start(flow, which)
        with pytest.raises(RunFailed) as failed:
            run.result(timeout=20)
        assert failed.value.failure.type == "DefinitionError"
        assert failed.value.failure.message.splitlines()[0] == message
        assert flowgen_client.history(run.id) == []
    assert called == []
