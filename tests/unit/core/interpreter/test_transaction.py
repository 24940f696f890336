"""Transaction: a call like a step's, whose function is given a connection."""

from __future__ import annotations

from typing import Any

from flowgen.core.commands import Flow, Transaction
from flowgen.core.retry import Retry
from flowgen.errors import StepFailed

from .running import begun, fails, gives, kinds, replayed, result


def save(conn: Any, order: str) -> int:
    raise NotImplementedError


def handler(order: str) -> Flow[Any]:
    try:
        return (yield from Transaction(save, order).opts(retry=Retry(2, initial=0)))
    except StepFailed as error:
        return error.failure.type


def test_the_caller_does_not_pass_the_connection() -> None:
    bench = begun(handler, order="o")
    (call,) = bench.calls.values()
    assert isinstance(call.command, Transaction)
    assert call.command.args == ("o",)
    gives(bench, "save", 7)
    assert result(bench) == 7


def test_a_committed_one_is_not_made_again() -> None:
    bench = begun(handler, order="o")
    gives(bench, "save", 7)
    _, decision = replayed(bench)
    assert decision.finish == bench.finish
    assert not decision.calls


def test_it_is_tried_again_by_its_policy() -> None:
    bench = begun(handler, order="o")
    fails(bench, "save", ValueError("a"))
    fails(bench, "save", KeyError("b"))
    assert kinds(bench) == ["ATTEMPT", "OUTCOME"]
    assert result(bench) == "KeyError"
