"""Gather: all at once; history's order says which failure ends it."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import attrs
import pytest

from flowgen.core.commands import Flow, Gather, Sleep, Step
from flowgen.core.decision import Failed, Raised, Returned
from flowgen.core.retry import Retry
from flowgen.errors import Cancelled, DefinitionError, PermanentError, StepFailed

from .running import begun, fails, gives, keys, over, replayed, result, workflow


def work(label: str) -> str:
    raise NotImplementedError


def branch(label: str, steps: int = 2) -> Flow[Any]:
    found = []
    for n in range(steps):
        found.append((yield from Step(work, f"{label}{n}")))
    return found


NO = PermanentError("no")


def test_results_are_in_the_order_of_the_branches() -> None:
    def handler() -> Flow[Any]:
        return list((yield from Gather(Step(work, "a"), branch("b"), Step(work, "c"))))

    bench = begun(handler)
    for key in ("gather/2/work", "gather/1/work", "gather/0/work", "gather/1/work#2"):
        gives(bench, key, key[7])
    assert result(bench) == ["0", ["1", "1"], "2"]
    assert keys(bench) == ["gather/2/work", "gather/1/work", "gather/0/work", "gather/1/work#2"]


def test_empty_it_gives_nothing_at_once() -> None:
    def handler() -> Flow[Any]:
        for _ in range(3000):
            assert (yield Gather()) == ()
        return "done"

    assert result(begun(handler)) == "done"


def test_the_first_failure_of_history_ends_it_and_the_rest_is_cancelled() -> None:
    def handler() -> Flow[Any]:
        try:
            yield Gather(Step(work, "a"), Step(work, "b"), Step(work, "c"))
        except StepFailed as error:
            return error.name

    bench = begun(handler)
    first = bench.execution.settle("gather/2/work", Raised(NO))
    second = bench.execution.settle("gather/0/work", Raised(NO))
    assert first is not None
    assert second is not None
    entries = [attrs.evolve(second, index=1), attrs.evolve(first, index=2)]
    decision = bench.execution.advance(bench.now, entries)
    assert decision.aborts == ["gather/1/work"]
    assert decision.finish is not None
    assert '"gather/0/work"' in decision.finish.output  # type: ignore[union-attr]
    execution = over(bench, items=entries)
    assert execution.advance(bench.now).finish == decision.finish


def test_a_late_outcome_of_a_cut_branch_is_ignored_live_and_replayed() -> None:
    def handler() -> Flow[Any]:
        try:
            yield Gather(Step(work, "a"), Step(work, "b"))
        except StepFailed:
            yield Step(work, "after")
            return "done"

    bench = begun(handler)
    late = bench.execution.settle("gather/1/work", Returned("b"))
    fails(bench, "gather/0/work", NO)
    assert late is not None
    bench.record(late)
    assert list(bench.calls) == ["work"]
    _, decision = replayed(bench)
    assert [call.key for call in decision.calls] == ["work"]
    gives(bench, "work", "x")
    assert result(bench) == "done"


def test_return_exceptions_cancels_nothing() -> None:
    def handler() -> Flow[Any]:
        def boom() -> Flow[Any]:
            yield Step(work, "c")
            raise ValueError("mine")

        found = yield from Gather(Step(work, "a"), Step(work, "b"), boom(), return_exceptions=True)
        return [str(each) for each in found]

    bench = begun(handler)
    fails(bench, "gather/0/work", NO)
    gives(bench, "gather/1/work", "ok")
    gives(bench, "gather/2/work", "ok")
    assert result(bench) == ["PermanentError: no", "ok", "ValueError: mine"]


def test_clean_up_of_a_cancelled_branch_ends_before_the_failure_is_thrown() -> None:
    def careful() -> Flow[Any]:
        try:
            yield Step(work, "a")
        except Cancelled:
            yield Step(work, "undo").opts(name="undo")

    def handler() -> Flow[Any]:
        try:
            yield Gather(careful(), Step(work, "b"))
        except StepFailed:
            return "failed"

    bench = begun(handler)
    fails(bench, "gather/1/work", NO)
    assert bench.finish is None
    assert list(bench.calls) == ["gather/0/undo"]
    _, decision = replayed(bench)
    assert [call.key for call in decision.calls] == ["gather/0/undo"]
    gives(bench, "gather/0/undo", "x")
    assert result(bench) == "failed"


def test_a_branch_that_fails_at_once_throws_once() -> None:
    def broken() -> Flow[Any]:
        raise ValueError("at once")
        yield

    def handler() -> Flow[Any]:
        try:
            yield Gather(broken(), Step(work, "a"), branch("b"))
        except ValueError as error:
            got = yield Step(work, "after")
            return [str(error), got]

    bench = begun(handler)
    assert list(bench.calls) == ["work"]
    gives(bench, "work", "x")
    assert result(bench) == ["at once", "x"]


def test_a_mistake_in_one_branch_lets_none_run() -> None:
    def handler() -> Flow[Any]:
        try:
            yield Gather(Step(work, "a"), Step(work, "a", "b", "c"), Step(work, "d"))
        except TypeError as error:
            return error.__notes__

    bench = begun(handler)
    assert not bench.calls
    assert "test_gather.py:" in result(bench)[0]


def test_gathers_nest() -> None:
    def handler() -> Flow[Any]:
        inner = Gather(Step(work, "a"), Step(work, "b"))
        return str((yield Gather(inner, Gather(branch("c", 1)))))

    bench = begun(handler)
    assert list(bench.calls) == ["gather/0/gather/0/work", "gather/0/gather/1/work", "gather/1/gather/0/work"]
    for key in list(bench.calls):
        gives(bench, key, key[-6])
    assert result(bench) == "(('0', '1'), (['0'],))"


def test_a_failure_deep_inside_cancels_everything_beside_it() -> None:
    def handler() -> Flow[Any]:
        try:
            yield Gather(Gather(Step(work, "a"), Sleep(9)), Gather(branch("b"), Sleep(9)))
        except StepFailed as error:
            return error.name

    bench = begun(handler)
    fails(bench, "gather/1/gather/0/work", NO)
    assert result(bench) == "gather/1/gather/0/work"


class TestOneUse:
    def test_a_flow_given_twice_is_refused_and_nothing_is_left_behind(self) -> None:
        async def helper() -> None:
            await Step(work, "a")

        def handler() -> Flow[Any]:
            flow = helper()
            said = []
            try:
                yield Gather(flow, flow, helper(), Gather(helper()))
            except DefinitionError as error:
                said.append(str(error))
            return said

        assert "a second time" in result(begun(handler))[0]
        gc.collect()

    def test_a_flow_that_was_driven_before_is_refused(self) -> None:
        def handler() -> Flow[Any]:
            flow = branch("a")
            yield Gather(flow)
            try:
                yield Gather(flow)
            except DefinitionError as error:
                return str(error)

        bench = begun(handler)
        gives(bench, "gather/0/work", "x")
        gives(bench, "gather/0/work#2", "x")
        assert "flow" in result(bench)

    def test_a_composite_yielded_twice_is_refused(self) -> None:
        def handler() -> Flow[Any]:
            both = Gather(branch("a", 1))
            yield both
            try:
                yield both
            except DefinitionError as error:
                return str(error)

        bench = begun(handler)
        gives(bench, "gather/0/work", "x")
        assert "call its function again" in result(bench)

    def test_a_name_given_twice_closes_the_flows_inside(self) -> None:
        async def helper() -> None:
            await asyncio.sleep(0)

        def handler() -> Flow[Any]:
            yield Gather().opts(name="g")
            yield Gather(helper()).opts(name="g")

        bench = begun(handler)
        assert isinstance(bench.finish, Failed)
        assert bench.finish.failure.type == "DuplicateNameError"
        gc.collect()


def test_ten_thousand_are_not_quadratic() -> None:
    count = 10_000

    def handler() -> Flow[Any]:
        found = yield Gather(*[Step(work, "a") for _ in range(count // 2)], *[Sleep(n % 7) for n in range(count // 2)])
        return len(found)

    bench = over(begun(workflow(handler)), items=[])
    now = begun(workflow(lambda_handler), a=1).now
    decision = bench.advance(now)
    looks = 0
    for index, call in enumerate(decision.calls, 1):
        entry = bench.settle(call.key, Returned("x"))
        assert entry is not None
        made = bench.advance(now, [attrs.evolve(entry, index=index)])
        looks += len(made.calls) + len(made.entries)
        assert bench.busy
    assert looks <= count


def lambda_handler(a: int) -> Flow[Any]:
    return a
    yield


@pytest.mark.parametrize("attempts", [1, 2])
def test_each_branch_keeps_its_own_attempts(attempts: int) -> None:
    def handler() -> Flow[Any]:
        retry = Retry(2, initial=0)
        return list((yield Gather(Step(work, "a").opts(retry=retry), Step(work, "b").opts(retry=retry))))

    bench = begun(handler)
    if attempts == 2:
        fails(bench, "gather/0/work", ValueError("x"))
    assert {key: call.attempt for key, call in bench.calls.items()} == {"gather/0/work": attempts, "gather/1/work": 1}
