"""What a run keeps of each item of a Map or a Gather that has ended: its result, under its key."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import pytest

from flowgen.core.commands import Flow, Gather, Invoke, Map, Step
from flowgen.testing.bench import Bench

from .running import begun, gives, result, workflow

ITEMS = 300
EDGE = 10
"""Objects of what is under way, of which there are now a few more and now a few less."""
NOT_ITS_OWN = (type, ModuleType, FunctionType, BuiltinFunctionType, Gather)


def work(n: int) -> int:
    raise NotImplementedError


def two(n: int) -> Flow[int]:
    yield Step(work, n)
    return (yield Step(work, n))


child = workflow(two, "child")


def kept(bench: Bench) -> Counter[str]:
    """The objects that can be reached from an execution, by their types; what a Gather was given apart."""
    seen = {id(bench), id(bench.commands)}
    found: Counter[str] = Counter()
    todo: list[Any] = [bench.execution]
    while todo:
        each = todo.pop()
        if id(each) in seen or isinstance(each, NOT_ITS_OWN):
            continue
        seen.add(id(each))
        found[type(each).__name__] += 1
        todo.extend(gc.get_referents(each))
    return found


def call(bench: Bench) -> None:
    gives(bench, next(iter(bench.calls)), 1_000_000 + len(bench.items))


def end_child(bench: Bench) -> None:
    run_id, start = next(iter(bench.children.items()))
    del bench.children[run_id]
    bench.child_ended(start.key, run_id, {"status": "completed", "output": 1_000_000 + len(bench.items)})


@pytest.mark.parametrize(
    ("command", "go_on", "outcomes"),
    [
        (lambda: Map(work, range(ITEMS), limit=7), call, 1),
        (lambda: Map(two, range(ITEMS), limit=7), call, 2),
        (lambda: Map(child, range(ITEMS), limit=7), end_child, 1),
        (lambda: Gather(*[Step(work, n) for n in range(ITEMS)]), call, 1),
        (lambda: Gather(*[two(n) for n in range(ITEMS)]), call, 2),
        (lambda: Gather(*[Invoke(child, n) for n in range(ITEMS)]), end_child, 1),
    ],
    ids=["steps", "flows", "child runs", "gathered steps", "gathered flows", "gathered child runs"],
)
@pytest.mark.parametrize("replayed", [False, True], ids=["live", "replayed"])
def test_of_an_item_that_has_ended_its_results_are_kept_and_nothing_else(
    command: Callable[[], Any], go_on: Callable[[Bench], None], outcomes: int, replayed: bool
) -> None:
    def handler() -> Flow[int]:
        return len((yield from command()))

    def state() -> tuple[int, Counter[str]]:
        if replayed:
            bench.restart()
            bench.go()
        return len(bench.execution.view.results), kept(bench)

    bench = begun(handler)
    for _ in range(100):
        go_on(bench)
    ended, before = state()
    for _ in range(100 * outcomes):
        go_on(bench)
    ended_since, after = state()
    outcomes_since, more = ended_since - ended, after - before
    assert outcomes_since >= 100
    # The key and the JSON of each outcome, and the value of each item.
    assert more.pop("str", 0) <= 2 * outcomes_since + EDGE
    assert more.pop("int", 0) <= outcomes_since + EDGE
    assert all(count <= EDGE for count in more.values()), more
    while bench.finish is None:
        go_on(bench)
    assert result(bench) == ITEMS
