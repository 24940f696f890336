"""What a wait does, driven by hand: no database, and a clock that the test turns."""

from __future__ import annotations

import logging
from threading import Event
from typing import Any
from uuid import UUID

import attrs
import pytest

from flowgen.client import results
from flowgen.client.plans import Do, Pause, Plan
from flowgen.client.results import Awaited, no_run, result
from flowgen.client.waiters import Waiters
from flowgen.core.states import Status
from flowgen.errors import DatabaseError, RunNotFinished, RunNotFound
from flowgen.postgres.database import Statement
from flowgen.postgres.observe import MISSING
from flowgen.postgres.rows import Ended

ONE, TWO = UUID(int=1), UUID(int=2)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def awaited(run_id: UUID = ONE) -> Awaited:
    return Awaited(run_id=run_id, shown="x", annotation=Any, missing=no_run("flowgen", "x"))


def ended(run_id: UUID = ONE, status: int = Status.COMPLETED) -> Ended:
    return Ended(run_id=run_id, status=status, output='"done"', error=None)


def statement(effect: object) -> str:
    assert isinstance(effect, Do)
    request = next(effect.make())
    assert isinstance(request, Statement)
    return request.name


def finished(plan: Plan[Any], value: object) -> Any:
    with pytest.raises(StopIteration) as stop:
        plan.send(value)
    return stop.value.value


def test_the_polls_grow_rarer_up_to_a_quarter_of_a_second() -> None:
    clock = Clock()
    plan = result(awaited(), Waiters(), Event(), None, clock)
    effect = next(plan)
    pauses: list[float] = []
    for _ in range(45):
        assert statement(effect) == "run_ended"
        pause = plan.send(())
        assert isinstance(pause, Pause)
        pauses.append(pause.seconds)
        effect = plan.send(None)
    assert pauses[0] < 0.001
    assert pauses == sorted(pauses)
    assert pauses[-1] == 0.25
    assert finished(plan, [ended()]) == "done"


def test_a_run_that_cannot_have_ended_yet_is_not_asked_for_at_once() -> None:
    soon = attrs.evolve(awaited(), first=0.001)
    plan = result(soon, Waiters(), Event(), None, Clock())
    pause = next(plan)
    assert isinstance(pause, Pause)
    assert pause.seconds == 0.001
    assert statement(plan.send(None)) == "run_ended"
    assert statement(next(result(soon, Waiters(), Event(), 0, Clock()))) == "run_ended"


def test_the_second_waiter_asks_nothing_and_rings_the_first() -> None:
    waiters, bells = Waiters(), (Event(), Event())
    first = result(awaited(ONE), waiters, bells[0], None, Clock())
    assert statement(next(first)) == "run_ended"
    second = result(awaited(TWO), waiters, bells[1], None, Clock())
    assert isinstance(next(second), Pause)
    assert bells[0].is_set()
    assert waiters.asked() == [ONE, TWO]
    assert finished(first, [ended(ONE), ended(TWO)]) == "done"
    assert bells[1].is_set()
    assert finished(second, None) == "done"
    assert waiters.asked() == []


def test_the_lead_is_handed_on_by_who_ends_or_is_dropped() -> None:
    waiters, bells = Waiters(), (Event(), Event())
    first, second = (
        result(awaited(each), waiters, bell, None, Clock()) for each, bell in zip((ONE, TWO), bells, strict=True)
    )
    next(first)
    next(second)
    first.close()
    assert bells[1].is_set()
    assert statement(second.send(None)) == "run_ended"
    assert finished(second, [ended(TWO)]) == "done"


def test_after_five_seconds_without_headway_why_is_asked(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    plan = result(awaited(), Waiters(), Event(), None, clock)
    next(plan)
    assert isinstance(plan.send(()), Pause)
    clock.now += 4.9
    assert statement(plan.send(None)) == "run_ended"
    pause = plan.send(())
    assert isinstance(pause, Pause)
    clock.now += 0.2
    assert statement(plan.send(None)) == "run_get"
    plan.close()


def test_a_wait_gives_up_at_its_timeout_after_a_last_look_of_its_own() -> None:
    clock = Clock()
    plan = result(awaited(), Waiters(), Event(), 1, clock)
    next(plan)
    pause = plan.send(())
    assert isinstance(pause, Pause)
    assert pause.seconds <= 1
    clock.now += 1
    assert statement(plan.send(None)) == "run_ended"
    assert finished(plan, [ended()]) == "done"


def test_a_missing_run_is_told() -> None:
    plan = result(awaited(), Waiters(), Event(), None, Clock())
    next(plan)
    with pytest.raises(RunNotFound, match="no run has the id 'x'"):
        plan.send([ended(status=MISSING)])


def test_an_outage_is_waited_out_for_a_minute() -> None:
    clock = Clock()
    plan = result(awaited(), Waiters(), Event(), None, clock)
    next(plan)
    gone = DatabaseError("gone", transient=True)
    assert isinstance(plan.throw(gone), Pause)
    assert statement(plan.send(None)) == "run_ended"
    assert isinstance(plan.send(()), Pause), "it is back"
    plan.send(None)
    assert isinstance(plan.throw(gone), Pause)
    clock.now += 61
    effect = plan.send(None)
    while statement(effect) != "run_ended":
        effect = plan.throw(DatabaseError("gone"))
    with pytest.raises(DatabaseError):
        plan.throw(gone)


def test_an_error_that_does_not_pass_ends_the_wait() -> None:
    waiters = Waiters()
    plan = result(awaited(), waiters, Event(), None, Clock())
    next(plan)
    with pytest.raises(DatabaseError, match="denied"):
        plan.throw(DatabaseError("denied", sqlstate="42501"))
    assert waiters.asked() == []


def test_the_logger_is_flowgens() -> None:
    assert results.logger is logging.getLogger("flowgen")


def test_a_timeout_that_is_no_duration_is_refused() -> None:
    from flowgen.errors import DefinitionError

    with pytest.raises(DefinitionError, match="timeout"):
        next(result(awaited(), Waiters(), Event(), -1, Clock()))
    assert issubclass(RunNotFinished, TimeoutError)
