"""Scope: a name around a flow, in which spellings may cross."""

from __future__ import annotations

from typing import Any

from flowgen.core.commands import Flow, Scope, Step
from flowgen.core.decision import Failed
from flowgen.errors import PermanentError, StepFailed

from .running import begun, fails, gives, keys, replayed, result


def work(label: str) -> str:
    raise NotImplementedError


def helper(label: str) -> Flow[Any]:
    return [(yield from Step(work, label)), (yield from Step(work, label))]


def handler() -> Flow[Any]:
    first = yield from Scope("one", helper("a"))
    second = yield from Scope("two", Step(work, "b"))
    return [first, second]


def test_it_prefixes_the_keys_inside() -> None:
    bench = begun(handler)
    for key in ("one/work", "one/work#2", "two/work"):
        gives(bench, key, key)
        _, decision = replayed(bench)
        assert [call.key for call in decision.calls] == list(bench.calls)
    assert keys(bench) == ["one/work", "one/work#2", "two/work"]
    assert result(bench) == [["one/work", "one/work#2"], "two/work"]


def test_a_coroutine_runs_inside_of_a_generator() -> None:
    async def other() -> Any:
        return await Step(work, "a")

    def crossing() -> Flow[Any]:
        return (yield from Scope("async", other()))

    bench = begun(crossing)
    gives(bench, "async/work", "x")
    assert result(bench) == "x"


def test_its_failure_is_the_flows() -> None:
    def catching() -> Flow[Any]:
        try:
            yield Scope("one", helper("a"))
        except StepFailed as error:
            return error.name

    bench = begun(catching)
    fails(bench, "one/work", PermanentError("no"))
    assert result(bench) == "one/work"


def test_its_name_is_given_once() -> None:
    def twice() -> Flow[Any]:
        yield Scope("one", Step(work, "a"))
        yield Scope("one", Step(work, "b"))

    bench = begun(twice)
    gives(bench, "one/work", "x")
    assert isinstance(bench.finish, Failed)
    assert "'one' is given twice in this run" in bench.finish.failure.message
