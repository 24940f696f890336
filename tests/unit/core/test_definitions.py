"""Definitions and calls: inert values that do what their function does when called."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from flowgen.app import App, call
from flowgen.core.commands import Flow, Sleep, Step
from flowgen.core.context import Context, RunFacts, StepContext, View, entered
from flowgen.core.definitions import Call, Cron, Task, Workflow
from flowgen.core.states import RunKind
from flowgen.errors import DefinitionError

app = App()


@app.task
def charge(order: str, cents: int = 100) -> str:
    return f"{order}:{cents}"


@app.task
async def ship(ctx: StepContext, order: str) -> str:
    return f"{type(ctx).__name__} {ctx.run_id!r} {order}"


@app.workflow
def checkout(ctx: Context, order: str) -> Flow[str]:
    receipt = yield from Step(charge, order)
    return f"{ctx.run_id}{receipt}"


@app.workflow
async def later(order: str) -> str:
    return await Step(charge, order)


@app.task
def poll(n: int) -> Flow[int]:
    yield Sleep(n)
    return n


def test_calling_a_task_does_what_its_function_does() -> None:
    assert charge("o-1", 500) == "o-1:500"
    assert charge.fn("o-1") == charge("o-1") == "o-1:100"


def test_calling_a_workflow_gives_its_flow() -> None:
    flow = checkout("o")
    assert next(flow) == Step(charge, "o")
    with pytest.raises(StopIteration) as stop:
        flow.send("r")
    assert stop.value.value == "r"


def test_a_coroutine_handler_yields_the_same_commands() -> None:
    flow = later("o")
    assert flow.send(None) == Step(charge, "o")
    with pytest.raises(StopIteration) as stop:
        flow.send("r")
    assert stop.value.value == "r"


def test_a_plain_call_is_given_a_context_that_knows_nothing() -> None:
    assert asyncio.run(ship("o")) == "StepContext '' o"


def test_a_call_inside_a_run_is_given_the_context_of_the_run() -> None:
    with entered(Context(RunFacts(run_id="run-1", uuid=UUID(int=1)), View())):
        assert asyncio.run(ship("o")) == "StepContext 'run-1' o"


def test_kinds_and_handlers() -> None:
    assert isinstance(charge, Task)
    assert isinstance(checkout, Workflow)
    assert (charge.kind, checkout.kind) == (RunKind.TASK, RunKind.WORKFLOW)
    assert [d.is_handler for d in (charge, ship, poll, checkout, later)] == [False, False, True, True, True]
    assert repr(charge) == "<task charge>"
    assert charge.location == f"{__file__}:{charge.fn.__code__.co_firstlineno}"


def test_a_call_binds_its_arguments_to_the_signature() -> None:
    assert charge.call("o", 5) == charge.call(cents=5, order="o")
    assert charge.call("o").arguments == {"order": "o"}
    assert checkout.call("o").arguments == {"order": "o"}
    assert hash(charge.call("o", 5)) == hash(charge.call("o", cents=5))
    assert charge.call("o") != charge.call("p")
    with pytest.raises(TypeError, match="order"):
        charge.call()  # type: ignore[call-arg]


def test_the_options_of_a_call_give_a_new_one_and_add_up() -> None:
    plain = charge.call("o")
    full = plain.opts(id="x", queue="q").opts(delay="5m", deadline=60, tags="one", priority=2, correlation_id="c")
    assert plain.options.id is None
    assert (full.options.id, full.options.queue, full.options.priority) == ("x", "q", 2)
    assert (full.options.delay, full.options.deadline) == (timedelta(minutes=5), timedelta(minutes=1))
    assert (full.options.tags, full.options.correlation_id) == (("one",), "c")
    assert plain.opts(tags=["a", "b"]).options.tags == ("a", "b")
    assert full == plain


def test_a_call_by_name_takes_any_argument_name() -> None:
    made = call("checkout", name="n", order="o")
    assert made == Call(None, "checkout", {"name": "n", "order": "o"})
    assert made.opts(id="x").options.id == "x"
    with pytest.raises(DefinitionError):
        call("")


NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.mark.bad_input("B4")
@pytest.mark.parametrize(
    "make",
    [
        lambda c: c.opts(id=""),
        lambda c: c.opts(id="a\x00b"),
        lambda c: c.opts(id="x" * 513),
        lambda c: c.opts(id="\ud800"),
        lambda c: c.opts(id=3),
        lambda c: c.opts(queue=" "),
        lambda c: c.opts(priority="high"),
        lambda c: c.opts(priority=32768),
        lambda c: c.opts(delay=-1),
        lambda c: c.opts(at=datetime(2030, 1, 1)),
        lambda c: c.opts(at="noon"),
        lambda c: c.opts(delay=1, at=NOON),
        lambda c: c.opts(delay=1).opts(at=NOON),
        lambda c: c.opts(deadline="never"),
        lambda c: c.opts(tags=[3]),
        lambda c: c.opts(correlation_id=""),
    ],
)
def test_an_option_of_a_call_that_makes_no_sense_is_refused(make: Callable[[Any], object]) -> None:
    with pytest.raises(DefinitionError):
        make(charge.call("o"))


def test_a_cron_is_checked_where_it_is_written() -> None:
    assert Cron("0 9 * * *", timezone="Europe/Berlin", args={"a": 1}).args == {"a": 1}
    with pytest.raises(DefinitionError):
        Cron("0 99 * * *")
    with pytest.raises(DefinitionError):
        Cron("0 9 * * *", timezone="Nowhere/Land")
