"""Retries of a whole run: what failed last is set aside, all else is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flowgen.core.commands import Command, Flow, Gather, Invoke, Now, Random, Sleep, Step, Uuid
from flowgen.core.context import Context
from flowgen.core.decision import Completed, Failed, Restarted
from flowgen.core.entries import EntryKind, MessageKind
from flowgen.core.retry import Retry
from flowgen.errors import PermanentError, StepFailed, StepInterrupted
from flowgen.testing.bench import Bench

from .running import begun, fails, gives, keys, kinds, order, over, replayed, result, workflow

ONCE = Retry(1)


def charge(order: str) -> str:
    raise NotImplementedError


def ship(order: str) -> str:
    raise NotImplementedError


def sub() -> Flow[Any]:
    yield Sleep(1)


SUB = workflow(sub)


def checkout(ctx: Context[Any]) -> Flow[Any]:
    first = yield Step(charge, "o")
    second = yield Step(ship, "o").opts(retry=Retry(2, initial=0))
    return [first, second, ctx.attempt]


def aside(bench: Bench) -> list[int]:
    (entry,) = [entry for entry in bench.items if entry.kind == EntryKind.SET_ASIDE]
    found: list[int] = json.loads(entry.value or "")["indexes"]
    return found


def test_a_policy_runs_the_handler_again_and_keeps_what_succeeded() -> None:
    bench = begun(workflow(checkout, retry=Retry(2)))
    gives(bench, "charge", "ch")
    fails(bench, "ship", ValueError("a"))
    fails(bench, "ship", ValueError("b"))
    assert aside(bench) == [2, 3]
    assert bench.calls["ship"].attempt == 1
    gives(bench, "ship", "sh")
    assert result(bench) == ["ch", "sh", 2]
    assert keys(bench) == ["charge", "ship", "ship"]


def test_the_last_attempt_fails_the_run() -> None:
    bench = begun(workflow(checkout, retry=Retry(2)))
    gives(bench, "charge", "ch")
    for _ in range(4):
        fails(bench, "ship", ValueError("b"))
    assert isinstance(bench.finish, Failed)
    assert bench.finish.retry_after is None


def test_a_permanent_error_of_a_step_is_not_tried_again() -> None:
    bench = begun(workflow(checkout, retry=Retry(5)))
    fails(bench, "charge", PermanentError("no"))
    assert isinstance(bench.finish, Failed)
    assert bench.attempt == 1


def test_an_error_of_the_handler_is_tried_again() -> None:
    def handler(ctx: Context[Any]) -> Flow[Any]:
        yield Step(charge, "o")
        if ctx.attempt == 1:
            raise ValueError("first")
        return ctx.attempt

    bench = begun(workflow(handler, retry=Retry(2)))
    gives(bench, "charge", "ch")
    assert result(bench) == 2
    assert kinds(bench) == ["OUTCOME"]


def test_an_interrupted_call_is_not_made_again_by_a_policy() -> None:
    def handler() -> Flow[Any]:
        try:
            yield Step(charge, "o").opts(at_most_once=True)
        except StepInterrupted:
            raise ValueError("unknown") from None

    bench = begun(workflow(handler, retry=Retry(2)))
    bench.restart()
    bench.go()
    assert isinstance(bench.finish, Failed)
    assert bench.attempt == 2
    assert "SET_ASIDE" not in kinds(bench)


def test_an_interrupted_call_fails_the_run_for_good() -> None:
    def handler() -> Flow[Any]:
        yield Step(charge, "o").opts(at_most_once=True)

    bench = begun(workflow(handler, retry=Retry(9)))
    bench.restart()
    bench.go()
    assert isinstance(bench.finish, Failed)
    assert bench.attempt == 1


def test_failures_of_every_branch_that_failed_last_are_set_aside() -> None:
    def handler() -> Flow[Any]:
        found = yield Gather(
            Step(charge, "a").opts(retry=ONCE),
            Step(charge, "b"),
            Step(ship, "c").opts(retry=ONCE),
            return_exceptions=True,
        )
        if any(not isinstance(each, str) for each in found):
            raise ValueError("incomplete")
        return list(found)

    bench = begun(workflow(handler, retry=Retry(2)))
    fails(bench, "gather/0/charge", ValueError("x"))
    gives(bench, "gather/1/charge", "b")
    fails(bench, "gather/2/ship", ValueError("x"))
    assert aside(bench) == [1, 3]
    assert sorted(bench.calls) == ["gather/0/charge", "gather/2/ship"]
    gives(bench, "gather/0/charge", "a")
    gives(bench, "gather/2/ship", "c")
    assert result(bench) == ["a", "b", "c"]


def test_what_was_recorded_of_branches_that_were_cut_is_no_divergence() -> None:
    def careful() -> Flow[Any]:
        try:
            return (yield Step(charge, "a"))
        finally:
            yield Step(ship, "undo").opts(name="undo")

    def handler() -> Flow[Any]:
        return str((yield Gather(careful(), Step(ship, "b").opts(retry=ONCE))))

    bench = begun(workflow(handler, retry=Retry(2)))
    fails(bench, "gather/1/ship", ValueError("x"))
    gives(bench, "gather/0/undo", "undone")
    assert sorted(bench.calls) == ["gather/0/charge", "gather/1/ship"]
    gives(bench, "gather/0/charge", "a")
    gives(bench, "gather/1/ship", "b")
    assert result(bench) == "('a', 'b')"


@pytest.mark.parametrize("drawn", [Now, Uuid, Random])
def test_what_was_drawn_in_a_branch_that_was_cut_is_not_drawn_again(drawn: type[Command[Any]]) -> None:
    def careful() -> Flow[Any]:
        try:
            yield Step(charge, "a")
        finally:
            token = yield drawn()
            yield Step(ship, str(token))
        return str(token)

    def handler() -> Flow[Any]:
        return (yield Gather(careful(), Step(ship, "b").opts(retry=ONCE)))[0]

    bench = begun(workflow(handler, retry=Retry(2)))
    fails(bench, "gather/1/ship", ValueError("x"))
    (token,) = bench.calls["gather/0/ship"].command.args
    gives(bench, "gather/0/ship", "shipped")
    gives(bench, "gather/0/charge", "a")
    gives(bench, "gather/1/ship", "b")
    assert result(bench) == token
    assert keys(bench).count("gather/0/ship") == 1
    assert not bench.warnings


def test_a_child_that_failed_is_made_anew() -> None:
    def handler() -> Flow[Any]:
        return (yield Invoke(SUB))

    bench = begun(workflow(handler, retry=Retry(2)))
    (first,) = bench.children
    bench.child_ended("sub", first, {"status": "failed", "error": {"type": "E", "message": "m"}})
    assert aside(bench) == [1, 2]
    (_, second) = bench.children
    assert second != first
    bench.child_ended("sub", second, {"status": "completed", "output": 4})
    assert result(bench) == 4


class TestOrders:
    @staticmethod
    def failed() -> Bench:
        bench = begun(workflow(checkout))
        gives(bench, "charge", "ch")
        fails(bench, "ship", ValueError("a"))
        fails(bench, "ship", ValueError("b"))
        assert isinstance(bench.finish, Failed)
        return bench

    def obeyed(self, bench: Bench, **said: Any) -> Any:
        execution = over(bench)
        execution.post([order(MessageKind.RETRY, **said)])
        decision = execution.advance(bench.now)
        assert decision.consumed
        bench.finish = None
        for entry in decision.entries:
            bench.record(entry)
        bench.finish = None
        bench.restart()
        bench.go()
        return decision

    def test_a_retry_goes_on_from_what_there_is(self) -> None:
        bench = self.failed()
        decision = self.obeyed(bench, who="me")
        assert isinstance(decision.finish, Restarted)
        assert aside(bench) == [2, 3]
        gives(bench, "ship", "sh")
        assert result(bench) == ["ch", "sh", 1]

    def test_from_scratch_everything_runs_again(self) -> None:
        bench = self.failed()
        decision = self.obeyed(bench, who="me", from_scratch=True)
        assert isinstance(decision.finish, Restarted)
        assert list(bench.calls) == ["charge"]
        gives(bench, "charge", "ch2")
        gives(bench, "ship", "sh2")
        assert result(bench) == ["ch2", "sh2", 1]

    def test_a_run_that_goes_on_consumes_the_order(self) -> None:
        bench = begun(workflow(checkout))
        decision = self.obeyed(bench)
        assert decision.finish is None
        assert decision.calls
        assert not decision.entries

    def test_from_scratch_also_a_run_that_goes_on(self) -> None:
        bench = begun(workflow(checkout))
        gives(bench, "charge", "ch")
        decision = self.obeyed(bench, from_scratch=True)
        assert isinstance(decision.finish, Restarted)
        assert list(bench.calls) == ["charge"]

    def test_a_completed_run_stays_completed(self) -> None:
        bench = begun(workflow(checkout))
        gives(bench, "charge", "ch")
        gives(bench, "ship", "ch")
        assert isinstance(self.obeyed(bench, from_scratch=True).finish, Completed)

    def test_an_interrupted_call_is_made_again_when_somebody_says_so(self) -> None:
        def handler() -> Flow[Any]:
            return (yield Step(charge, "o").opts(at_most_once=True))

        bench = begun(workflow(handler))
        bench.restart()
        bench.go()
        assert isinstance(bench.finish, Failed)
        self.obeyed(bench)
        gives(bench, "charge", "ch")
        assert result(bench) == "ch"

    def test_from_scratch_forgets_the_checkpoint(self) -> None:
        from flowgen.core.commands import Checkpoint

        def handler(ctx: Context[Any]) -> Flow[Any]:
            for page in range(ctx.checkpoint_cursor or 0, 2):
                yield Step(charge, str(page)).opts(retry=ONCE)
                yield Checkpoint(page + 1)

        bench = begun(workflow(handler))
        gives(bench, "charge", "ch")
        fails(bench, "charge", ValueError("x"))
        self.obeyed(bench, from_scratch=True)
        assert bench.calls["charge"].command.args == ("0",)
        assert not bench.execution.context.has_checkpoint()


@pytest.mark.parametrize("caught", [True, False])
def test_a_failure_that_was_answered_after_is_kept(caught: bool) -> None:
    def handler() -> Flow[Any]:
        try:
            yield Step(charge, "o").opts(retry=ONCE)
        except StepFailed:
            if caught:
                yield Step(ship, "o")
            raise

    bench = begun(workflow(handler))
    fails(bench, "charge", ValueError("x"))
    if caught:
        gives(bench, "ship", "x")
    execution, _ = replayed(bench)
    execution.post([order(MessageKind.RETRY)])
    decision = execution.advance(bench.now)
    assert len(decision.entries) == (0 if caught else 1)
