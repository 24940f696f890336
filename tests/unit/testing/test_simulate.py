"""simulate: a workflow on workers that crash, without a database and without waiting; what it finds, it tells."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flowgen import (
    App,
    ChildFailed,
    Context,
    ContinueAsNew,
    Flow,
    Gather,
    Invoke,
    NotRegisteredError,
    Retry,
    Sleep,
    Start,
    Step,
    StepContext,
    StepFailed,
    Transaction,
    Uuid,
    Wait,
    call,
)
from flowgen.testing import Simulated, simulate

app = App(name="simulated")


@app.task
def charge(order_id: str, cents: int) -> str:
    return f"ch_{order_id}_{cents}"


@app.task
async def ship(order_id: str) -> str:
    await asyncio.sleep(0)
    return f"sh_{order_id}"


@app.workflow
def checkout(order_id: str) -> Flow[str]:
    receipt = yield from Step(charge, order_id, cents=500)
    yield Sleep(seconds=2)
    return receipt


def save(conn: Any, order_id: str) -> int:
    raise NotImplementedError


@app.workflow
def ledger(order_id: str) -> Flow[int]:
    number = yield from Transaction(save, order_id)
    yield Step(charge, order_id, 1)
    return number


def test_it_returns_the_undisturbed_run() -> None:
    run = simulate(checkout.call("o-1"), schedules=30)
    assert run.result == "ch_o-1_500"
    assert run.status == "completed"
    assert run.failure is None
    assert run.count(charge) == run.count("charge") == 1
    assert [(each.run, each.key, each.args, each.attempt) for each in run.calls] == [
        ("checkout", "charge", ("o-1",), 1)
    ]
    assert run.ended_at == datetime(2026, 1, 1, 0, 0, 2, tzinfo=UTC)
    assert [entry.key for entry in run.trace.items] == ["charge", "sleep", "sleep"]


def test_an_invariant_is_asked_of_every_schedule() -> None:
    asked: list[Simulated[str]] = []
    simulate(checkout.call("o-1"), schedules=50, invariant=asked.append)
    assert len(asked) == 51
    assert max(run.count(charge) for run in asked) > 1
    assert {run.result for run in asked} == {"ch_o-1_500"}


def test_what_an_invariant_refuses_is_told_as_the_smallest_story() -> None:
    with pytest.raises(AssertionError) as refused:
        simulate(checkout.call("o-1"), invariant=lambda run: run.count(charge) == 1)
    told = str(refused.value)
    assert told.startswith("checkout violates invariant (what the test asks for)")
    assert any(word in told for word in ("dies", "stalls", "lost", "signs of life"))
    assert told.count("\n") < 30
    schedule = [int(each) for each in re.findall(r"-?\d+", told.rpartition("schedule=")[2])]
    with pytest.raises(AssertionError) as again:
        simulate(checkout.call("o-1"), invariant=lambda run: run.count(charge) == 1, schedule=schedule)
    assert str(again.value) == told
    assert simulate(checkout.call("o-1"), schedule=schedule).count(charge) > 1


def test_an_assertion_of_an_invariant_is_shown() -> None:
    def invariant(run: Simulated[str]) -> None:
        assert run.count(charge) < 2, "charged twice"

    with pytest.raises(AssertionError, match="charged twice"):
        simulate(checkout.call("o-1"), invariant=invariant)


def test_a_transaction_takes_effect_once() -> None:
    run = simulate(ledger.call("o-1"), outcomes={save: 7}, invariant=lambda run: list(run.committed) == ["save"])
    assert run.result == 7


def test_a_handler_that_is_not_deterministic_is_found() -> None:
    starts = iter(range(10**6))

    @App(name="odd").workflow
    def odd() -> Flow[str]:
        yield Sleep(1)
        if next(starts) % 2:
            yield Sleep(2)
        return (yield from Step(charge, "o-1", 1))

    with pytest.raises(AssertionError, match="I18.*replay"):
        simulate(odd)


def test_without_an_invariant_a_schedule_must_come_to_what_the_undisturbed_run_comes_to() -> None:
    @App(name="fragile").workflow
    def fragile() -> Flow[str]:
        try:
            return (yield from Step(charge, "o-1", 1).opts(at_most_once=True))
        except StepFailed:
            return "not known"

    with pytest.raises(AssertionError, match="I3.*not known"):
        simulate(fragile)
    assert simulate(fragile, crashes=False).result == "ch_o-1_1"
    simulate(fragile, invariant=lambda run: run.count(charge) <= 1)


def test_a_run_may_be_cancelled_at_any_moment() -> None:
    ends: set[str] = set()
    simulate(checkout.call("o-1"), cancels=True, invariant=lambda run: ends.add(run.status))
    assert ends == {"completed", "cancelled"}


def test_outcomes_are_scripted_and_stay_the_same_when_a_worker_is_lost() -> None:
    @App(name="twice").workflow
    def twice() -> Flow[list[str]]:
        return [(yield from Step(charge, "a", 1)), (yield from Step(charge, "b", 1))]

    assert simulate(twice, schedules=40, outcomes={charge: ["first", "second"]}).result == ["first", "second"]
    assert simulate(twice, schedules=10, outcomes={"charge": "same"}).result == ["same", "same"]
    assert simulate(twice, schedules=10, outcomes={charge: lambda order_id, cents: order_id}).result == ["a", "b"]
    failed = simulate(twice, schedules=10, outcomes={charge: OSError("no route")})
    assert failed.failure is not None
    assert "OSError: no route" in failed.failure.message
    assert failed.count(charge) == 3


def test_children_are_runs_of_their_own_or_scripted() -> None:
    @App(name="family").workflow
    def family() -> Flow[list[Any]]:
        ref = yield from Start(ship, "o-2")
        found = yield from Gather(Invoke(checkout, "o-1"), Step(ship, "o-3"))
        return [*found, (yield from Wait(ref))]

    run = simulate(family, schedules=60)
    assert run.result == ["ch_o-1_500", "sh_o-3", "sh_o-2"]
    assert [each.name for each in run.runs] == ["family", "ship", "checkout"]
    assert simulate(family, schedules=20, outcomes={checkout: "scripted"}).result == ["scripted", "sh_o-3", "sh_o-2"]
    assert simulate(family, schedules=20, outcomes={checkout: ValueError("no")}).status == "failed"


def test_the_id_of_a_child_that_went_on_as_new_stands_for_its_first_input() -> None:
    once = App(name="once")

    @once.workflow
    def counter(n: int) -> Flow[int]:
        yield Sleep(1)
        return n if n == 3 else (yield from ContinueAsNew(n + 1))

    @once.workflow
    def parent() -> Flow[list[Any]]:
        ref = yield from Start(counter, 1).opts(id="c")
        yield Sleep("2.5s")
        found: list[Any] = [(yield from Invoke(counter, 1).opts(id="c")), (yield from Wait(ref))]
        found.append((yield from Invoke(counter, 1).opts(id="c")))
        try:
            yield from Invoke(counter, 3).opts(id="c")
        except ChildFailed as error:
            found.append(str(error.failure))
        return found

    *found, refused = simulate(parent, schedules=40).result
    assert found == [3, 3, 3]
    assert '{"n":1} of its first pass, not' in refused


def test_a_child_by_name_must_be_known() -> None:
    @App(name="named").workflow
    def parent() -> Flow[Any]:
        return (yield Invoke("nobody_knows_it", 1))

    with pytest.raises(AssertionError, match="starts 'nobody_knows_it' by name"):
        simulate(parent)
    assert simulate(parent, outcomes={"nobody_knows_it": 4}).result == 4


def test_a_transaction_that_is_not_scripted_is_refused() -> None:
    with pytest.raises(AssertionError, match="there is no database here"):
        simulate(ledger.call("o-1"))


def test_an_assertion_of_a_scripted_function_is_the_tests_own() -> None:
    def fake(order_id: str, cents: int) -> str:
        assert cents == 1, "another price"
        return ""

    with pytest.raises(AssertionError, match="another price"):
        simulate(checkout.call("o-1"), outcomes={charge: fake})


def test_services_time_and_options_of_the_call_are_heeded() -> None:
    @App(name="served").workflow(deadline="1m")
    def served(ctx: Context) -> Flow[list[Any]]:
        told = [ctx.run_id, ctx.services["name"], str(ctx.now)]
        yield Step(asked)
        yield Sleep(120)
        return told

    def asked(ctx: StepContext) -> str:
        return str(ctx.services["name"])

    start = datetime(2030, 5, 1, tzinfo=UTC)
    run = simulate(served.call().opts(id="s-1", delay=5), services={"name": "shop"}, now=start, schedules=20)
    assert run.failure is not None
    assert run.failure.type == "RunTimedOut"
    assert run.ended_at == start + timedelta(minutes=1)
    longer = simulate(served.call().opts(id="s-1", deadline="1h"), services={"name": "shop"}, now=start, schedules=20)
    assert longer.result == ["s-1", "shop", str(start)]


def test_the_same_seed_gives_the_same_and_another_seed_another() -> None:
    @App(name="lucky").workflow
    def lucky() -> Flow[str]:
        value = yield from Uuid()
        return str(value)

    def seen(seed: int) -> list[Any]:
        found: list[Any] = []
        simulate(lucky, seed=seed, schedules=20, invariant=lambda run: found.append((run.result, run.schedule)))
        return found

    assert seen(1) == seen(1)
    assert seen(1) != seen(2)


def test_a_story_of_a_schedule_can_be_read() -> None:
    run = simulate(checkout.call("o-1"), schedule=[])
    assert "worker 1: flush (outcome 'charge') arrives" in run.story
    assert run.story.endswith("worker 1: flush (complete) arrives")


def test_it_works_where_a_loop_runs_and_with_one_worker() -> None:
    @App(name="async").workflow
    async def coroutine(order_id: str) -> str:
        return await Step(ship, order_id).opts(retry=Retry(1))

    async def within() -> str:
        found = simulate(coroutine.call("o-1"), schedules=20, workers=1)
        assert asyncio.get_running_loop().is_running()
        return found.result

    assert asyncio.run(within()) == "sh_o-1"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"schedules": 0}, r"simulate\(schedules=\) is 0: give a whole number of 1 or more"),
        ({"workers": True}, r"simulate\(workers=\) is True"),
        ({"schedule": "12"}, "the list of ints that a failure has shown, not '12'"),
        ({"schedule": [1.5]}, r"not \[1.5\]"),
    ],
)
def test_bad_use_is_told(given: dict[str, Any], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        simulate(checkout.call("o-1"), **given)


def test_what_is_no_call_is_refused() -> None:
    bad: Any = checkout("o-1")
    with pytest.raises(TypeError, match=r"simulate takes a call, such as checkout\.call"):
        simulate(bad)
    with pytest.raises(TypeError, match="order_id"):
        simulate(checkout)
    with pytest.raises(NotRegisteredError):
        simulate(call("nowhere"))
