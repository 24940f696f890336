"""What an operator decides about one command of a run: tried again, skipped, completed with a value."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flowgen.core.commands import Flow, Gather, Step
from flowgen.core.decision import Completed, Failed, Raised, Restarted
from flowgen.core.entries import EntryKind, Message, MessageKind
from flowgen.core.retry import Retry
from flowgen.errors import PermanentError, StepFailed
from flowgen.testing.bench import Bench

from .running import begun, fails, gives, keys, over, result

NO = PermanentError("no")


def charge(order: str) -> str:
    raise NotImplementedError


def ship(order: str) -> str:
    raise NotImplementedError


def checkout() -> Flow[Any]:
    first = yield Step(charge, "o")
    second = yield Step(ship, "o").opts(retry=Retry(3, initial=100, jitter=0))
    return [first, second]


def said(verb: str, key: str, value: Any = None) -> Message:
    step: dict[str, Any] = {"key": key, "verb": verb}
    if verb != "retry":
        step["value"] = json.dumps(value)
    return Message(900, MessageKind.RETRY, "", json.dumps({"who": "ann", "reason": "asked", "step": step}))


def ordered(bench: Bench, message: Message) -> Any:
    """A failed run is started again with an order in its inbox; what it comes to, and what is recorded."""
    execution = over(bench)
    execution.post([message])
    decision = execution.advance(bench.now)
    assert list(decision.consumed) == [900]
    return decision


def failed() -> Bench:
    bench = begun(checkout)
    gives(bench, "charge", "ch")
    fails(bench, "ship", NO)
    assert isinstance(bench.finish, Failed)
    return bench


@pytest.mark.parametrize(("verb", "value"), [("complete", "by hand"), ("skip", "not needed")])
def test_a_failed_step_is_given_a_value_and_the_handler_goes_on(verb: str, value: Any) -> None:
    bench = failed()
    decision = ordered(bench, said(verb, "ship", value))
    assert isinstance(decision.finish, Restarted)
    aside, given = decision.entries
    assert json.loads(aside.value) == {"indexes": [2], "why": f"{verb}: asked", "who": "ann"}
    assert (given.kind, given.key, json.loads(given.value)) == (EntryKind.OUTCOME, "ship", value)
    for entry in decision.entries:
        bench._commit(entry)
    again = over(bench).advance(bench.now)
    assert again.finish == Completed(json.dumps(["ch", value], separators=(",", ":")))


def test_a_failed_step_is_tried_again_and_what_succeeded_is_kept() -> None:
    bench = failed()
    decision = ordered(bench, said("retry", "ship"))
    assert isinstance(decision.finish, Restarted)
    for entry in decision.entries:
        bench._commit(entry)
    again = over(bench).advance(bench.now)
    assert [(call.key, call.attempt) for call in again.calls] == [("ship", 1)]


def test_a_value_of_another_type_is_refused_and_said() -> None:
    bench = failed()
    decision = ordered(bench, said("complete", "ship", {"no": "text"}))
    assert isinstance(decision.finish, Failed)
    assert "complete of ship: " in decision.finish.failure.details["refused"]
    assert decision.entries == []


def test_a_command_that_did_not_fail_is_refused_and_said() -> None:
    decision = ordered(failed(), said("complete", "charge", "x"))
    assert isinstance(decision.finish, Failed)
    assert decision.finish.failure.details["refused"] == "complete of charge: it is not a command that failed"


def test_a_step_that_waits_for_its_next_attempt_is_tried_at_once() -> None:
    bench = begun(checkout)
    gives(bench, "charge", "ch")
    fails(bench, "ship", ValueError("later"))
    assert bench.calls == {}
    bench.execution.post([said("retry", "ship")])
    bench.go()
    assert bench.calls["ship"].attempt == 1
    gives(bench, "ship", "sh")
    assert result(bench) == ["ch", "sh"]
    assert json.loads(over(bench).advance(bench.now).finish.output) == ["ch", "sh"]  # type: ignore[union-attr]


def test_a_step_that_waits_for_its_next_attempt_is_completed() -> None:
    bench = begun(checkout)
    gives(bench, "charge", "ch")
    fails(bench, "ship", ValueError("later"))
    bench.execution.post([said("complete", "ship", "by hand")])
    bench.go()
    assert result(bench) == ["ch", "by hand"]
    assert json.loads(over(bench).advance(bench.now).finish.output) == ["ch", "by hand"]  # type: ignore[union-attr]


def test_a_call_under_way_is_given_up_for_the_value() -> None:
    def handler() -> Flow[Any]:
        return (yield Step(ship, "o").opts(retry=Retry(3, initial=1, jitter=0)))

    bench = begun(handler)
    fails(bench, "ship", ValueError("once"))
    assert "ship" in bench.calls
    bench.execution.post([said("complete", "ship", "by hand")])
    bench.go()
    assert bench.calls == {}
    assert result(bench) == "by hand"


def test_an_order_that_comes_too_late_changes_nothing() -> None:
    bench = begun(checkout)
    gives(bench, "charge", "ch")
    bench.execution.post([said("complete", "charge", "x")])
    bench.go()
    assert keys(bench) == ["charge"]
    assert "came too late" in bench.warnings[-1]


@pytest.mark.parametrize(
    ("verb", "kinds"), [("retry", [EntryKind.SET_ASIDE]), ("complete", [EntryKind.SET_ASIDE, EntryKind.OUTCOME])]
)
def test_an_order_that_comes_before_its_step_was_told_of_its_attempt_waits_for_that(
    verb: str, kinds: list[EntryKind]
) -> None:
    """Whoever gave the order has seen the attempt in the store: its commit was not answered yet."""
    bench = begun(checkout)
    gives(bench, "charge", "ch")
    attempt = bench.execution.settle("ship", Raised(ValueError("later")))
    assert attempt is not None
    bench.execution.post([said(verb, "ship", "by hand")])
    early = bench.execution.advance(bench.now)
    assert [*early.consumed, *early.entries, *early.warnings] == []
    decision = bench.execution.advance(bench.now, [bench._commit(attempt)])
    assert list(decision.consumed) == [900]
    assert [entry.kind for entry in decision.entries] == kinds


def test_one_failed_branch_is_completed_and_the_others_are_asked_again() -> None:
    def handler() -> Flow[Any]:
        try:
            return list((yield Gather(Step(charge, "a"), Step(ship, "b"))))
        except StepFailed:
            yield Step(charge, "undo")
            raise

    bench = begun(handler)
    fails(bench, "gather/1/ship", NO)
    gives(bench, "charge", "undone")
    assert isinstance(bench.finish, Failed)
    decision = ordered(bench, said("complete", "gather/1/ship", "by hand"))
    for entry in decision.entries:
        bench._commit(entry)
    again = over(bench).advance(bench.now)
    assert [call.key for call in again.calls] == ["gather/0/charge"]
