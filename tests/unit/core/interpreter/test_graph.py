"""Graph: nodes run as soon as what they come after has ended; decisions, skips, failures, and what a node may read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from flowgen.core.commands import (
    Checkpoint,
    Choose,
    Flow,
    Gather,
    Graph,
    GraphResult,
    Invoke,
    Map,
    Race,
    Scope,
    Sleep,
    Step,
)
from flowgen.core.context import Context
from flowgen.core.decision import Failed, Parked
from flowgen.core.facts import StepFacts
from flowgen.core.retry import Retry
from flowgen.errors import Cancelled, DefinitionError, PermanentError, StepFailed

from .running import begun, fails, gives, keys, replayed, result, statuses, task, workflow

NO = PermanentError("no")


def validate(order: str) -> Any:
    raise NotImplementedError


def reserve() -> str:
    raise NotImplementedError


def invoice() -> str:
    raise NotImplementedError


def ship() -> str:
    raise NotImplementedError


def tell() -> str:
    raise NotImplementedError


def decide() -> Choose:
    raise NotImplementedError


def diamond(*more: Any, **ship_options: Any) -> Graph:
    return Graph(
        Step(ship).opts(after=[reserve, "invoice"], **ship_options),
        Step(validate, "o-1"),
        Step(reserve).opts(after=validate),
        Step(invoice).opts(after=[validate]),
        *more,
    )


def shown(done: GraphResult) -> list[Any]:
    return [dict(done), dict(done.skipped), {name: failure.message for name, failure in done.failed.items()}]


def of(make: Callable[[], Graph]) -> Any:
    def handler() -> Flow[Any]:
        return shown((yield from make()))

    return handler


def calls(bench: Any) -> list[str]:
    return sorted(key.rpartition("/")[2] for key in bench.calls)


def test_a_node_runs_as_soon_as_all_that_it_comes_after_is_done() -> None:
    bench = begun(of(diamond))
    assert calls(bench) == ["validate"]
    gives(bench, "graph/validate", "v")
    assert calls(bench) == ["invoice", "reserve"]
    gives(bench, "graph/invoice", "i")
    assert calls(bench) == ["reserve"]
    gives(bench, "graph/reserve", "r")
    gives(bench, "graph/ship", "s")
    assert result(bench) == [{"ship": "s", "validate": "v", "reserve": "r", "invoice": "i"}, {}, {}]
    assert keys(bench) == ["graph/validate", "graph/invoice", "graph/reserve", "graph/ship"]


def test_nodes_without_after_begin_at_once_and_an_empty_graph_ends_at_once() -> None:
    bench = begun(of(lambda: Graph(Step(ship), Step(tell), Sleep(5))))
    assert calls(bench) == ["ship", "tell"]
    assert result(begun(of(Graph))) == [{}, {}, {}]


def test_a_replay_in_the_middle_calls_only_what_is_left() -> None:
    bench = begun(of(diamond))
    gives(bench, "graph/validate", "v")
    gives(bench, "graph/invoice", "i")
    bench.restart()
    bench.go()
    assert calls(bench) == ["reserve"]
    gives(bench, "graph/reserve", "r")
    bench.restart()
    bench.go()
    gives(bench, "graph/ship", "s")
    assert result(bench)[0]["ship"] == "s"


def test_every_kind_of_command_can_be_a_node() -> None:
    def flow() -> Flow[str]:
        one = yield from Step(tell)
        return one + (yield from Step(tell))

    def handler() -> Flow[Any]:
        done = yield from Graph(
            Sleep(1).opts(name="pause"),
            Map(validate, ["a", "b"]).opts(name="pages", after="pause"),
            Scope("both", flow()).opts(after=["pages"]),
            Gather(Step(ship), Step(reserve)).opts(name="pair", after=["both"]),
            Race(a=Step(ship)).opts(after=["pair"]),
            Checkpoint().opts(name="commit", after=["race"]),
            Graph(Step(ship), Step(tell).opts(after=ship)).opts(name="inner", after="commit"),
        )
        return [done["pages"], done["both"], list(done["pair"]), done["race"].value, dict(done["inner"]), list(done)]

    bench = begun(handler)
    bench.move_to(bench.now.replace(minute=1))
    while bench.finish is None:
        key = min(bench.calls)
        gives(bench, key, key)
        bench.restart()
        bench.go()
    pages = ["graph/pages/0/validate", "graph/pages/1/validate"]
    inner = {"ship": "graph/inner/ship", "tell": "graph/inner/tell"}
    assert result(bench) == [
        pages,
        "graph/both/tellgraph/both/tell#2",
        ["graph/pair/0/ship", "graph/pair/1/reserve"],
        "graph/race/a/ship",
        inner,
        ["pause", "pages", "both", "pair", "race", "commit", "inner"],
    ]


def large(done: GraphResult) -> bool:
    return bool(done[validate] == "large")


@pytest.mark.parametrize(("when", "reason"), [(large, "large said no"), (lambda done: False, "when= said no")])
def test_a_node_whose_when_says_no_is_skipped_with_a_recorded_reason(when: Any, reason: str) -> None:
    bench = begun(
        of(lambda: Graph(Step(validate, "o"), Step(ship).opts(after=validate, when=when), Step(tell).opts(after=ship)))
    )
    gives(bench, "graph/validate", "small")
    assert result(bench) == [{"validate": "small"}, {"ship": reason, "tell": "ship was skipped"}, {}]
    assert statuses(bench) == {"graph/validate": "VALUE", "graph/ship": "SKIPPED", "graph/tell": "SKIPPED"}


def test_when_is_given_the_results_of_the_ancestors_and_no_other() -> None:
    seen: list[Any] = []

    def look(done: GraphResult) -> bool:
        seen.append(shown(done))
        return True

    bench = begun(of(lambda: diamond(Step(tell), when=look)))
    for key in ("tell", "validate", "reserve", "invoice"):
        gives(bench, f"graph/{key}", key)
    assert seen == [[{"validate": "validate", "reserve": "reserve", "invoice": "invoice"}, {}, {}]]
    gives(bench, "graph/ship", "")


def test_a_when_that_raises_fails_its_node() -> None:
    def wrong(done: GraphResult) -> bool:
        return bool(done["nothing"])

    bench = begun(of(lambda: Graph(Step(ship).opts(name="s", when=wrong))))
    assert isinstance(bench.finish, Failed)
    assert bench.finish.failure.type == "KeyError"
    assert "no node 'nothing' is known here, only nothing" in bench.finish.failure.message


def test_a_choice_skips_the_others_directly_after_it_and_what_comes_after_them() -> None:
    def make() -> Graph:
        return Graph(
            Step(decide),
            Step(reserve).opts(after=decide),
            Step(invoice).opts(name="bill", after=decide),
            Step(ship).opts(after=decide),
            Step(tell).opts(after=["bill"]),
            Step(validate, "o").opts(after=[reserve, tell], join="any_success"),
        )

    bench = begun(of(make))
    gives(bench, "graph/decide", Choose(reserve, "ship"))
    gives(bench, "graph/reserve", "r")
    gives(bench, "graph/ship", "s")
    bench.restart()
    bench.go()
    gives(bench, "graph/validate", "v")
    done, skipped, failed = result(bench)
    assert done == {"decide": {"chosen": ["reserve", "ship"]}, "reserve": "r", "ship": "s", "validate": "v"}
    assert skipped == {"bill": "decide chose reserve, ship", "tell": "bill was skipped"}
    assert failed == {}


def test_nothing_can_be_chosen_and_all_is_skipped() -> None:
    bench = begun(of(lambda: Graph(Step(decide), Step(ship).opts(after=decide, join="all_done"))))
    gives(bench, "graph/decide", Choose())
    assert result(bench)[1] == {"ship": "decide chose none"}


def test_a_choice_of_what_does_not_come_after_fails_the_graph() -> None:
    bench = begun(of(lambda: Graph(Step(decide), Step(ship).opts(after=decide), Step(tell))))
    gives(bench, "graph/decide", Choose("tell"))
    assert isinstance(bench.finish, Failed)
    text = "decide chose 'tell', which does not come directly after it: ship does"
    assert text in bench.finish.failure.message


def test_a_choice_that_the_annotation_does_not_tell_is_refused() -> None:
    bench = begun(of(lambda: Graph(Step(plain), Step(ship).opts(after=plain))))
    gives(bench, "graph/plain", Choose("ship"))
    assert isinstance(bench.finish, Failed)
    assert "without the annotation -> Choose it would be stored as any other value" in bench.finish.failure.message


def plain():  # type: ignore[no-untyped-def]
    raise NotImplementedError


def test_a_failure_is_rethrown_after_the_others_were_cancelled() -> None:
    seen: list[str] = []

    def flow() -> Flow[None]:
        try:
            yield Sleep(60)
        except Cancelled:
            seen.append("cancelled")
            raise

    def handler() -> Flow[Any]:
        try:
            yield from diamond(Scope("slow", flow()))
        except StepFailed as error:
            return [error.name, list(seen)]

    bench = begun(handler)
    gives(bench, "graph/validate", "v")
    fails(bench, "graph/reserve", NO)
    assert result(bench) == ["graph/reserve", ["cancelled"]]
    assert bench.calls == {}


@pytest.mark.parametrize("join", ["all_done", "any_success"])
def test_a_failure_stands_in_the_result_when_all_directly_after_it_say_so(join: Any) -> None:
    bench = begun(of(lambda: diamond(Step(tell).opts(after=[reserve], join="all_done"), join=join)))
    gives(bench, "graph/validate", "v")
    fails(bench, "graph/reserve", NO)
    assert calls(bench) == ["invoice", "tell"]
    gives(bench, "graph/invoice", "i")
    bench.restart()
    bench.go()
    gives(bench, "graph/ship", "s")
    gives(bench, "graph/tell", "t")
    done, skipped, failed = result(bench)
    assert (set(done), skipped, failed) == ({"validate", "invoice", "ship", "tell"}, {}, {"reserve": "no"})


def test_a_failure_is_rethrown_when_one_directly_after_it_needs_its_result() -> None:
    bench = begun(of(lambda: diamond(Step(tell).opts(after=[reserve]), join="all_done")))
    gives(bench, "graph/validate", "v")
    fails(bench, "graph/reserve", NO)
    assert isinstance(bench.finish, Failed)


def test_any_success_is_skipped_when_none_succeeded() -> None:
    bench = begun(
        of(lambda: Graph(Step(reserve), Step(tell), Step(ship).opts(after=[reserve, tell], join="any_success")))
    )
    fails(bench, "graph/reserve", NO)
    fails(bench, "graph/tell", NO)
    assert result(bench) == [{}, {"ship": "none of reserve, tell succeeded"}, {"reserve": "no", "tell": "no"}]


def test_a_run_that_is_tried_again_keeps_a_failure_that_the_graph_went_on_from() -> None:
    def handler() -> Flow[Any]:
        done = yield from Graph(
            Step(reserve), Step(tell).opts(after=reserve, join="all_done"), Step(ship).opts(after=tell)
        )
        return shown(done)

    bench = begun(workflow(handler, retry=Retry(2, initial=1, jitter=0)))
    fails(bench, "graph/reserve", NO)
    gives(bench, "graph/tell", "t")
    fails(bench, "graph/ship", ValueError("once"))
    bench.move_to(bench.now.replace(minute=1))
    fails(bench, "graph/ship", ValueError("twice"))
    bench.move_to(bench.now.replace(minute=2))
    fails(bench, "graph/ship", ValueError("three times"))
    assert bench.finish is None
    assert calls(bench) == ["ship"]
    gives(bench, "graph/ship", "s")
    assert result(bench) == [{"tell": "t", "ship": "s"}, {}, {"reserve": "no"}]


def test_a_decision_that_a_replay_takes_otherwise_is_a_divergence() -> None:
    answer = [False]

    def handler() -> Flow[Any]:
        yield from Graph(Step(validate, "o"), Step(ship).opts(after=validate, when=lambda done: answer[0]))
        yield Sleep(60)

    bench = begun(handler)
    gives(bench, "graph/validate", "v")
    answer[0] = True
    _, decision = replayed(bench)
    assert isinstance(decision.finish, Parked)
    assert "skip ship as 'graph/ship'" in decision.finish.detail
    assert "step ship as 'graph/ship'" in decision.finish.detail


def test_a_named_graph_decides_anew_after_a_checkpoint() -> None:
    def handler(ctx: Context[Any]) -> Flow[Any]:
        found = list(ctx.accumulated_results or [])
        for page in range(ctx.checkpoint_cursor or 0, 3):
            done = yield from Graph(
                Step(ship).opts(name="s", when=lambda done, page=page: page != 1)  # type: ignore[misc]
            ).opts(name="g")
            found.append(dict(done.skipped) or done["s"])
            yield Checkpoint(page + 1, page + 1, found)
        return found

    bench = begun(handler)
    gives(bench, "g/s", "kept")
    assert result(bench) == ["kept", {"s": "when= said no"}, "kept"]
    items, bench.finish = bench.items, None
    bench.restart()
    bench.go()
    assert result(bench) == ["kept", {"s": "when= said no"}, "kept"]
    assert bench.items == items


def test_a_coroutine_in_a_node_that_never_ran_is_closed() -> None:
    async def never() -> None:
        raise NotImplementedError

    bench = begun(
        of(
            lambda: Graph(
                Step(reserve),
                Scope("no", never()).opts(when=lambda done: False),
                Scope("late", never()).opts(after=reserve),
            )
        )
    )
    fails(bench, "graph/reserve", NO)
    assert isinstance(bench.finish, Failed)
    begun(of(lambda: Graph(Step(reserve), Scope("late", never()).opts(after=reserve)))).cancel("enough")


# what a node may read


def results(bench: Any, key: str) -> dict[str, Any]:
    """What the function of this step reads."""
    context = bench.execution.step_context(StepFacts(key=key))
    known: dict[str, Any] = context.get_all_dependency_results()
    assert sorted(context.get_dependency_result_keys()) == sorted(known)
    assert {name: context.get_dependency_result(name) for name in known} == known
    return known


def test_a_function_reads_exactly_its_ancestors_and_what_was_before_the_graph() -> None:
    def handler() -> Flow[Any]:
        yield from Step(validate, "before").opts(name="before")
        yield from Step(validate, "before")
        yield from diamond(Step(tell), Step(tell).opts(name="more", after=tell))

    bench = begun(handler)
    gives(bench, "before", "b")
    gives(bench, "validate", "shadowed")
    assert results(bench, "graph/tell") == {"before": "b", "validate": "shadowed"}
    gives(bench, "graph/tell", "t")
    gives(bench, "graph/validate", {"order": "v"})
    assert results(bench, "graph/reserve") == {"before": "b", "validate": {"order": "v"}}
    gives(bench, "graph/reserve", "r")
    assert results(bench, "graph/invoice") == {"before": "b", "validate": {"order": "v"}}
    assert results(bench, "graph/more") == {"before": "b", "validate": "shadowed", "tell": "t"}
    bench.restart()
    bench.go()
    context = bench.execution.step_context(StepFacts(key="graph/invoice"))
    assert context.get_dependency_field(validate, "order") == "v"
    assert context.get_dependency_result("reserve") is None
    assert context.get_dependency_result("graph/reserve") is None
    gives(bench, "graph/invoice", "i")
    known = {"before": "b", "validate": {"order": "v"}, "reserve": "r", "invoice": "i"}
    assert results(bench, "graph/ship") == known


def test_a_skipped_or_failed_ancestor_has_no_result() -> None:
    def handler() -> Flow[Any]:
        yield from Step(tell)
        yield from Graph(
            Step(reserve),
            Step(tell).opts(when=lambda done: False),
            Step(ship).opts(after=[reserve, tell], join="all_done"),
        )

    bench = begun(handler)
    gives(bench, "tell", "before")
    fails(bench, "graph/reserve", NO)
    assert results(bench, "graph/ship") == {}


def test_a_node_of_branches_has_a_result_of_its_own_and_those_inside() -> None:
    def flow() -> Flow[Any]:
        yield from Step(tell)
        yield from Step(ship)

    def handler() -> Flow[Any]:
        yield from Graph(
            Map(validate, ["a", "b"]).opts(name="pages"),
            Scope("own", flow()).opts(after="pages"),
            Step(reserve),
        )

    bench = begun(handler)
    gives(bench, "graph/reserve", "r")
    gives(bench, "graph/pages/0/validate", "0")
    gives(bench, "graph/pages/1/validate", "1")
    pages = {"pages": ["0", "1"], "pages/0/validate": "0", "pages/1/validate": "1"}
    assert results(bench, "graph/own/tell") == pages
    gives(bench, "graph/own/tell", "t")
    assert results(bench, "graph/own/ship") == {**pages, "graph/own/tell": "t"}


def test_a_graph_in_a_graph_reads_the_ancestors_of_both() -> None:
    def handler() -> Flow[Any]:
        inner = Graph(Step(reserve), Step(tell), Step(ship).opts(after=reserve)).opts(name="inner", after=validate)
        yield from Graph(Step(validate, "o"), Step(invoice), inner)

    bench = begun(handler)
    gives(bench, "graph/invoice", "i")
    gives(bench, "graph/validate", "v")
    gives(bench, "graph/inner/tell", "t")
    gives(bench, "graph/inner/reserve", "r")
    assert results(bench, "graph/inner/ship") == {"validate": "v", "reserve": "r"}


def test_what_comes_after_a_graph_reads_its_results_by_name() -> None:
    def flow(n: int) -> Flow[Any]:
        return (yield from Graph(Step(tell), Step(reserve).opts(when=lambda done: False)))

    def handler() -> Flow[Any]:
        yield from Graph(
            Graph(Step(reserve), Step(tell).opts(after=reserve)).opts(name="inner"),
            Map(flow, [1]).opts(name="pages", after="inner"),
            Race(a=Graph(Step(tell))).opts(after="pages"),
            Step(ship).opts(after="race"),
        )

    bench = begun(handler)
    gives(bench, "graph/inner/reserve", "r")
    gives(bench, "graph/inner/tell", "t")
    gives(bench, "graph/pages/0/graph/tell", "p")
    gives(bench, "graph/race/a/graph/tell", "w")
    known = results(bench, "graph/ship")
    assert known["inner"] == {"reserve": "r", "tell": "t"}
    assert known["pages"] == [{"tell": "p"}]
    assert known["race"] == {"tag": "a", "value": {"tell": "w"}}
    assert known["inner/reserve"] == "r"


# what is refused


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: Graph(Step(ship).opts(after=tell), Step(tell).opts(after=reserve), Step(reserve).opts(after=ship)),
            "wait for each other in a circle, ship -> reserve -> tell -> ship: take one after= away",
        ),
        (lambda: Graph(Step(ship).opts(after=ship)), "in a circle, ship -> ship"),
        (
            lambda: Graph(Step(ship), Step(tell).opts(after="shipp")),
            "tell comes after 'shipp', which is no node: is 'ship' meant? Its nodes are 'ship', 'tell'",
        ),
        (lambda: Graph(Step(ship), Step(ship)), "two nodes are named 'ship', Step(ship) and Step(ship)"),
        (
            lambda: Graph(Step(ship).opts(name="a"), Step(ship).opts(name="b"), Step(tell).opts(after=ship)),
            "tell comes after ship, which several nodes call: name the one that is meant, 'a', 'b'",
        ),
        (lambda: Graph(Step(ship).opts(join="all_done")), "join= of ship is about the nodes that it comes after"),
        (lambda: Graph(ship), "give it Step(ship, ...)"),  # type: ignore[arg-type]
        (lambda: Graph(yield_one()), "has no name: make it Scope('load', yield_one(...))"),  # type: ignore[arg-type]
        (lambda: Step(ship).opts(after=3), "after= takes the nodes that this one comes after"),  # type: ignore[arg-type]
        (lambda: Step(ship).opts(after=[3]), "a step is named by a string, a task or a function"),  # type: ignore[list-item]
        (lambda: Step(ship).opts(when=True), "when= takes a plain function"),  # type: ignore[arg-type]
        (lambda: Step(ship).opts(when=yield_one), "when= takes a plain function"),  # type: ignore[arg-type]
        (lambda: Step(ship).opts(join="any"), 'join= is "all_success"'),  # type: ignore[arg-type]
        (lambda: Gather(Step(ship).opts(after=tell)), "has after=, which says how a node of a Graph runs"),
        (lambda: Race(a=Step(ship).opts(when=large)), "has when=, which says how a node of a Graph runs"),
        (lambda: Scope("a", Step(ship).opts(name="x")).opts(name="b"), "a Scope has its name as its first argument"),
    ],
)  # fmt: skip
def test_what_is_no_graph_is_refused_with_the_way_out(make: Any, said: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        make()
    assert said in str(refused.value)


def yield_one() -> Flow[None]:
    yield Sleep(1)


def test_a_node_outside_of_a_graph_is_refused_where_it_is_yielded() -> None:
    def handler() -> Flow[Any]:
        yield Step(ship).opts(after=[tell], join="all_done")

    bench = begun(handler)
    assert isinstance(bench.finish, Failed)
    assert "has after= and join=, which says how a node of a Graph runs, and is no node" in bench.finish.failure.message
    assert bench.items == []


def test_what_a_graph_came_to_says_why_there_is_no_result() -> None:
    known = GraphResult({"a": 1}, {"b": "a chose c"}, {}, {"charge": "a"})
    assert (known["a"], known["charge"], "charge" in known, "b" in known, list(known), len(known)) == (
        1, 1, True, False, ["a"], 1,
    )  # fmt: skip
    assert dict(known) == {"a": 1}
    with pytest.raises(KeyError, match="b was skipped: a chose c"):
        known["b"]
    with pytest.raises(KeyError, match="no node 'x' is known here, only a, b"):
        known["x"]


def test_definitions_and_functions_name_their_nodes() -> None:
    pay = task(ship, "pay")

    def handler() -> Flow[Any]:
        done = yield from Graph(
            Step(pay), Invoke(pay).opts(name="again", after=pay), Step(tell).opts(name="last", after="again")
        )
        return [done[pay], done[tell], done["last"]]

    bench = begun(handler)
    gives(bench, "graph/pay", "p")
    (child,) = bench.children.values()
    bench.child_ended("graph/again", child.run_id, {"status": "completed", "output": "c"})
    gives(bench, "graph/last", "l")
    assert result(bench) == ["p", "l", "l"]


def test_equal_graphs_are_equal() -> None:
    assert diamond() == diamond()
    assert hash(diamond()) == hash(diamond())
    assert diamond() != diamond(join="all_done")
    assert Graph(Step(ship), Step(tell)) != Graph(Step(ship), Step(tell).opts(after=ship))
    assert repr(Graph(Step(ship), Step(tell).opts(after=ship, join="all_done"))) == (
        "Graph(Step(ship), Step(tell).opts(after=['ship'], join='all_done'))"
    )


def test_a_large_graph_is_linear_in_its_edges() -> None:
    nodes: list[Any] = [Step(ship).opts(name="0")]
    nodes += [Step(ship).opts(name=str(place), after=str(place - 1)) for place in range(1, 3000)]
    made = Graph(*nodes)
    assert len(made.ancestors(2999)) == 2999


def test_choices_are_stored_by_name() -> None:
    assert attrs.asdict(Choose(ship, "x")) == {"chosen": ("ship", "x")}
