"""Divergence: a history that does not fit the code parks the run, with a diff."""

from __future__ import annotations

from typing import Any

import pytest

from flowgen.core.commands import Flow, Gather, Invoke, Sleep, Step
from flowgen.core.decision import Completed, Parked, Restarted
from flowgen.core.entries import EntryKind, MessageKind
from flowgen.testing.bench import Bench

from .running import begun, gives, keys, order, over, replayed, workflow


def charge(order: str) -> str:
    raise NotImplementedError


def ship(order: str) -> str:
    raise NotImplementedError


def sub() -> Flow[Any]:
    yield Sleep(1)


SUB = workflow(sub)


def before() -> Flow[Any]:
    first = yield Step(charge, "o")
    second = yield Step(ship, "o")
    return [first, second]


@pytest.fixture
def bench() -> Bench:
    made = begun(workflow(before, "checkout"))
    gives(made, "charge", "ch")
    gives(made, "ship", "sh")
    return made


def parked(bench: Bench, changed: Any, **options: Any) -> Parked:
    execution, decision = replayed(bench, definition=workflow(changed, "checkout", **options))
    assert isinstance(decision.finish, Parked), decision
    assert decision.finish.reason == "diverged"
    assert not decision.calls
    assert not decision.entries
    assert execution.problem is not None
    return decision.finish


@pytest.mark.bad_input("B41")
def test_another_target_is_one(bench: Bench) -> None:
    def changed() -> Flow[Any]:
        yield Step(charge, "o")
        yield Step(charge, "o").opts(name="ship")

    said = parked(bench, changed).detail
    assert "entry 2 is the outcome of step ship as 'ship'" in said
    assert "the code now yields step charge as 'ship' at " in said
    assert "test_divergence.py:" in said
    assert "       1  step charge as 'charge'" in said
    assert "  -    2  step ship as 'ship'    (recorded)" in said


@pytest.mark.bad_input("B41")
def test_another_kind_is_one(bench: Bench) -> None:
    def changed() -> Flow[Any]:
        yield Step(charge, "o")
        yield Sleep(5).opts(name="ship")

    assert "sleep as 'ship'" in parked(bench, changed).detail


@pytest.mark.bad_input("B41")
def test_another_order_is_one(bench: Bench) -> None:
    def changed() -> Flow[Any]:
        yield Step(ship, "o")
        yield Step(charge, "o")

    parked(bench, changed)


@pytest.mark.bad_input("B41")
def test_a_recorded_command_that_is_never_asked_for_is_one(bench: Bench) -> None:
    def changed() -> Flow[Any]:
        return (yield Step(charge, "o"))

    assert "nothing: the handler has ended" in parked(bench, changed).detail


def test_one_in_a_branch_is_shown_beside_the_nearest(bench: Bench) -> None:
    def first() -> Flow[Any]:
        yield Gather(Step(charge, "a"), Step(ship, "b"))

    def changed() -> Flow[Any]:
        yield Gather(Step(charge, "a"), Step(charge, "b"))

    gathered = begun(workflow(first, "checkout"))
    gives(gathered, "gather/1/ship", "x")
    said = parked(gathered, changed).detail
    assert "'gather/1/charge' at " in said
    assert "test_divergence.py:" in said


@pytest.mark.bad_input("B41")
def test_other_arguments_are_a_warning_and_the_outcome_is_used(bench: Bench) -> None:
    def changed() -> Flow[Any]:
        first = yield Step(charge, "other")
        return [first, (yield Step(ship, "o"))]

    _, decision = replayed(bench, definition=workflow(changed, "checkout"))
    assert decision.finish == Completed('["ch","sh"]')
    assert "charge was recorded with other arguments than Step(charge, 'other') has now, at" in decision.warnings[0]


@pytest.mark.bad_input("B41")
def test_other_arguments_are_one_when_determinism_is_strict(bench: Bench) -> None:
    def changed() -> Flow[Any]:
        yield Step(charge, "other")

    parked(bench, changed, determinism="strict")


def test_it_starts_nothing_and_cancels_no_child() -> None:
    def first() -> Flow[Any]:
        yield Gather(Invoke(SUB), Step(charge, "a"))

    def changed() -> Flow[Any]:
        yield Gather(Invoke(SUB), Step(ship, "a"))

    bench = begun(workflow(first, "checkout"))
    gives(bench, "gather/1/charge", "x")
    _, decision = replayed(bench, definition=workflow(changed, "checkout"))
    assert isinstance(decision.finish, Parked)
    assert decision.cancel_children == ()


def test_a_child_of_another_command_is_one() -> None:
    def first() -> Flow[Any]:
        yield Invoke(SUB).opts(name="x")

    def changed() -> Flow[Any]:
        yield Sleep(1).opts(name="x")

    def without() -> Flow[Any]:
        yield Sleep(1)

    bench = begun(workflow(first, "checkout"))
    parked(bench, changed)
    parked(bench, without)


def test_a_timer_that_nobody_asks_for_says_nothing() -> None:
    def first() -> Flow[Any]:
        yield Sleep(1000)

    def changed() -> Flow[Any]:
        yield Step(charge, "o")
        yield Sleep(1)

    bench = begun(workflow(first, "checkout"))
    execution, decision = replayed(bench, definition=workflow(changed, "checkout"))
    assert list(decision.calls)
    assert execution.problem is None


class TestAccept:
    @staticmethod
    def changed() -> Flow[Any]:
        first = yield Step(charge, "o")
        return [first, (yield Step(charge, "p"))]

    def test_the_run_goes_on_with_the_code_as_it_is(self, bench: Bench) -> None:
        changed = workflow(self.changed, "checkout")
        execution = over(bench, definition=changed)
        execution.post([order(MessageKind.ACCEPT, by="me", reason="ok")])
        decision = execution.advance(bench.now)
        assert isinstance(decision.finish, Restarted)
        assert decision.consumed == [902]
        (entry,) = decision.entries
        assert (entry.kind, entry.named) == (EntryKind.SET_ASIDE, True)
        assert entry.value == '{"indexes": [2], "why": "ok", "who": "me"}'
        bench.definition = changed
        bench.finish = None
        bench.record(entry)
        bench.finish = None
        bench.restart()
        bench.go()
        gives(bench, "charge#2", "ch2")
        assert bench.finish == Completed('["ch","ch2"]')
        assert keys(bench) == ["charge", "ship", "charge#2"]

    def test_children_that_nobody_asks_for_are_cancelled(self) -> None:
        def first() -> Flow[Any]:
            yield Step(ship, "o")
            yield Invoke(SUB)

        bench = begun(workflow(first, "checkout"))
        gives(bench, "ship", "x")
        execution = over(bench, definition=workflow(self.changed, "checkout"))
        execution.post([order(MessageKind.ACCEPT)])
        decision = execution.advance(bench.now)
        assert decision.cancel_children == list(bench.children)

    def test_of_a_run_that_fits_is_consumed(self, bench: Bench) -> None:
        execution = over(bench)
        execution.post([order(MessageKind.ACCEPT)])
        decision = execution.advance(bench.now)
        assert isinstance(decision.finish, Completed)
        assert decision.consumed == [900]
