"""Schedule and Unschedule: an effect of the database in the commit of their outcome."""

from __future__ import annotations

from typing import Any

import pytest

from flowgen.core.commands import Flow, Schedule, Unschedule
from flowgen.errors import CodecError, DefinitionError

from .running import begun, over, replayed, result, workflow


def sub(n: Any) -> Flow[Any]:
    return n
    yield


SUB = workflow(sub)


def handler() -> Flow[Any]:
    yield Schedule(SUB.call(1), "daily", cron="0 9 * * *")
    yield Unschedule(SUB, "daily")
    return "done"


def test_the_request_stands_in_the_decision_of_its_outcome() -> None:
    bench = begun(handler)
    decision = over(bench, items=[]).advance(bench.now)
    (request,) = decision.schedules
    assert request.command == Schedule(SUB.call(1), "daily", cron="0 9 * * *")
    assert request.input == '{"n":1}'
    assert [entry.key for entry in decision.entries] == ["schedule:daily"]


def test_a_replay_asks_for_nothing() -> None:
    bench = begun(handler)
    assert result(bench) == "done"
    _, decision = replayed(bench)
    assert not decision.schedules
    assert decision.finish == bench.finish


def test_arguments_that_cannot_be_stored_are_refused_at_the_yield() -> None:
    def refused() -> Flow[Any]:
        try:
            yield Schedule(SUB.call(object()), "daily", cron="0 9 * * *")
        except CodecError as error:
            return str(error)

    assert "sub argument 'n'" in result(begun(refused))


@pytest.mark.parametrize("name", ["cron", "cron-2"])
def test_a_schedule_that_code_declares_is_neither_replaced_nor_removed_by_a_handler(name: str) -> None:
    said = f"^the name of a schedule is '{name}': so are those called that code declares with cron=; give another$"
    with pytest.raises(DefinitionError, match=said):
        Schedule(SUB.call(1), name, cron="0 9 * * *")
    with pytest.raises(DefinitionError, match=said):
        Unschedule(SUB, name)
    assert Unschedule(SUB, "cron-daily").name == "cron-daily"
