"""Map: a bounded number of items at a time, results in the items' order."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from flowgen.core.commands import Flow, Map, Sleep, Step
from flowgen.core.commands.fanout import IN_FLIGHT
from flowgen.core.decision import Failed
from flowgen.errors import DefinitionError, Failure, PermanentError, StepFailed

from .running import begun, fails, gives, keys, result

NO = PermanentError("no")


def work(n: int) -> str:
    raise NotImplementedError


def two(n: int) -> Flow[str]:
    first = yield from Step(work, n)
    second = yield from Step(work, n + 100)
    return f"{first}{second}"


def test_results_are_in_the_order_of_the_items() -> None:
    def handler() -> Flow[Any]:
        return (yield from Map(work, [1, 2, 3]))

    bench = begun(handler)
    for place in (2, 0, 1):
        gives(bench, f"map/{place}/work", str(place))
    assert result(bench) == ["0", "1", "2"]


def test_no_more_than_the_limit_are_under_way() -> None:
    def handler() -> Flow[Any]:
        return (yield from Map(work, range(5), limit=2))

    bench = begun(handler)
    seen = []
    for _ in range(5):
        calls = sorted(bench.calls)
        seen.append([key[4] for key in calls])
        gives(bench, calls[-1], calls[-1][4])
    assert seen == [["0", "1"], ["0", "2"], ["0", "3"], ["0", "4"], ["0"]]
    assert result(bench) == ["0", "1", "2", "3", "4"]


def test_without_a_limit_a_thousand_are_under_way() -> None:
    def handler() -> Flow[Any]:
        return len((yield from Map(work, range(IN_FLIGHT + 5))))

    bench = begun(handler)
    assert len(bench.calls) == IN_FLIGHT
    while bench.calls:
        gives(bench, next(iter(bench.calls)), "x")
    assert result(bench) == IN_FLIGHT + 5


def test_no_items_give_an_empty_list_at_once() -> None:
    def handler() -> Flow[Any]:
        return (yield from Map(work, []))

    assert result(begun(handler)) == []


def test_the_first_failure_ends_it_and_what_is_under_way_is_cancelled() -> None:
    def handler() -> Flow[Any]:
        try:
            yield Map(work, range(5), limit=2)
        except StepFailed as error:
            return error.name

    bench = begun(handler)
    fails(bench, "map/1/work", NO)
    assert result(bench) == "map/1/work"
    assert keys(bench) == ["map/1/work"]


def test_with_continue_an_item_is_a_result_or_a_failure() -> None:
    def handler() -> Flow[Any]:
        done = yield from Map(work, range(3), limit=1, on_failure="continue")
        return [each.message if isinstance(each, Failure) else each for each in done]

    bench = begun(handler)
    gives(bench, "map/0/work", "a")
    fails(bench, "map/1/work", NO)
    gives(bench, "map/2/work", "c")
    assert result(bench) == ["a", "no", "c"]


def test_a_handler_may_return_what_came_with_its_failures() -> None:
    def handler() -> Flow[list[str | Failure]]:
        return (yield from Map(work, range(2), on_failure="continue"))

    bench = begun(handler)
    gives(bench, "map/0/work", "a")
    fails(bench, "map/1/work", NO)
    first, second = result(bench)
    assert (first, second["type"], second["message"]) == ("a", "PermanentError", "no")


def test_a_generator_function_is_a_flow_of_this_run() -> None:
    def handler() -> Flow[Any]:
        return (yield from Map(two, range(3), limit=1))

    bench = begun(handler)
    for place in range(3):
        gives(bench, f"map/{place}/work", "a")
        gives(bench, f"map/{place}/work#2", "b")
    assert result(bench) == ["ab", "ab", "ab"]


def test_an_item_that_does_not_fit_fails_its_own_place() -> None:
    def strict(a: int, b: int) -> Flow[int]:
        yield Sleep(1)
        return a + b

    def handler() -> Flow[Any]:
        done = yield from Map(strict, [1], on_failure="continue")  # type: ignore[arg-type, call-overload]
        return done[0].type

    assert result(begun(handler)) == "TypeError"


def test_a_replay_in_the_middle_goes_on_with_the_items_that_are_left() -> None:
    def handler() -> Flow[Any]:
        return (yield from Map(work, range(4), limit=2))

    bench = begun(handler)
    gives(bench, "map/1/work", "1")
    bench.restart()
    bench.go()
    assert sorted(bench.calls) == ["map/0/work", "map/2/work"]
    for place in (2, 0, 3):
        gives(bench, f"map/{place}/work", str(place))
    assert result(bench) == ["0", "1", "2", "3"]


def test_an_uncaught_failure_fails_the_run() -> None:
    def handler() -> Flow[Any]:
        yield Map(work, [1])

    bench = begun(handler)
    fails(bench, "map/0/work", NO)
    assert isinstance(bench.finish, Failed)


def test_what_is_no_map_is_refused() -> None:
    for given in ({"limit": 0}, {"limit": True}, {"on_failure": "ignore"}):
        with pytest.raises(DefinitionError, match="Map"):
            Map(work, [1], **given)  # type: ignore[call-overload]
    with pytest.raises(DefinitionError, match="Map takes a function and its items"):
        Map(work, 3)  # type: ignore[call-overload]
    with pytest.raises(DefinitionError, match="its items are steps, queue= does not fit"):
        Map(work, [1]).opts(queue="q")
    with pytest.raises(DefinitionError, match="only a @task or @workflow makes runs"):
        Map(work, [1]).opts(as_runs=True)


@pytest.mark.parametrize("nameless", [lambda item: item, functools.partial(work)])
def test_a_function_without_a_name_for_the_items_is_refused_with_what_helps(nameless: Any) -> None:
    with pytest.raises(DefinitionError, match="Map of .* write it with def"):
        Map(nameless, [1])


def test_equal_maps_are_equal() -> None:
    assert Map(work, [1, 2]) == Map(work, (1, 2), limit=1)
    assert Map(work, [1, 2]) != Map(work, [2, 1])
