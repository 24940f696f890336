"""What is refused before anything runs, at the decoration or where a value is made, and in which words."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

import flowgen
from flowgen import App, Context, DefinitionError, Flow, Retry, Sleep, Step, StepContext
from flowgen.client.sync import Client

GIVE = 'give a timedelta, a number of seconds, or a string such as "500ms", "2s", "1h30m", "1.5h", "2d", "1w"'
AWARE = "use datetime(..., tzinfo=UTC)"


async def yields() -> Any:
    yield 1


def plain(n: int) -> int:
    return n


def flow(n: int) -> Flow[None]:
    yield Sleep(n)


class Shop:
    def method(self) -> None: ...


@pytest.mark.bad_input("B25")
@pytest.mark.parametrize(
    ("fn", "said"),
    [
        (yields, "a handler is a generator (def ... yield) or a coroutine (async def ... await)"),
        (Shop, "on the class Shop: decorate a function"),
        (Shop().method, "decorate a function outside of a class"),
        (lambda: 1, "it has no name of its own, give it name="),
        (functools.partial(plain, 1), "on partial (<unknown>:0): it has no name of its own, give it name="),
        (plain, "make it a generator (yield Step(...)) or a coroutine (await Step(...)), or use @task"),
        (3, "a function was expected, not 3 of type int"),
    ],
)
def test_what_is_no_handler_is_refused_at_its_decoration(fn: Any, said: str) -> None:
    app = App()
    with pytest.raises(DefinitionError) as refused:
        app.workflow(fn)
    assert said in str(refused.value)
    assert app.definitions == {}


def second(n: int, ctx: StepContext) -> int:
    return n


def named(*, ctx: Context[Any]) -> int:
    return 1


def perhaps(ctx: StepContext | None, n: int) -> int:
    return n


@pytest.mark.bad_input("B25")
@pytest.mark.parametrize("fn", [second, named, perhaps])
def test_a_context_that_would_not_be_given_is_refused_at_the_decoration(fn: Any) -> None:
    with pytest.raises(DefinitionError, match="'ctx' is no parameter that is given the context: make it the first"):
        App().task(fn)


@pytest.mark.bad_input("B58")
@pytest.mark.parametrize("cron", [3, ["@daily", 3]])
def test_what_is_no_cron_trigger_is_refused_at_the_decoration(cron: Any) -> None:
    with pytest.raises(DefinitionError, match="cron= takes a cron expression, a Cron, or several of them, not "):
        App().task(cron=cron)(plain)


@pytest.mark.bad_input("B44")
def test_two_functions_of_one_name_are_refused_with_both_places() -> None:
    app = App()
    first = app.task(name="pay")(plain)
    with pytest.raises(DefinitionError) as refused:
        app.workflow(name="pay")(flow)
    lines = [fn.__code__.co_firstlineno for fn in (plain, flow)]
    assert str(refused.value) == (
        f"two definitions have the name 'pay': <task pay> at {__file__}:{lines[0]} and <workflow pay> at "
        f"{__file__}:{lines[1]}; give one of them name="
    )
    assert app.definition("pay") is first


@pytest.mark.bad_input("B45")
def test_arguments_that_do_not_fit_a_known_signature_are_refused_where_they_are_given(flowgen_client: Client) -> None:
    app = App()
    task = app.task(plain)
    for make, said in (
        (lambda: flowgen_client.start(task), "plain() missing 1 required positional argument: 'n'"),
        (lambda: flowgen_client.start(task, 1, 2), "plain() takes 1 positional argument but 2 were given"),
        (lambda: flowgen_client.start(task, m=1), "plain() got an unexpected keyword argument 'm'"),
        (lambda: flowgen.Invoke(task, m=1).arguments, "plain() got an unexpected keyword argument 'm'"),
    ):
        with pytest.raises(TypeError) as refused:
            make()
        assert str(refused.value) == said
    with pytest.raises(
        flowgen.CodecError, match=r"^plain argument 'n' cannot be stored at \$: found str, allowed: int$"
    ):
        flowgen_client.start(task, "text")
    assert flowgen_client.count() == 0


@pytest.mark.bad_input("B49")
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Sleep(-1), f"Sleep is -1, which is negative: {GIVE.replace('give', 'give zero or more, as', 1)}"),
        (
            lambda: Sleep(timedelta(days=-1)),
            "Sleep is datetime.timedelta(days=-1), which is negative: give zero or more",
        ),
        (lambda: Sleep(math.nan), f"Sleep is nan, which is no length of time: {GIVE}"),
        (lambda: Sleep(math.inf), f"Sleep is inf, which is no length of time: {GIVE}"),
        (lambda: Sleep(hours=math.inf), f"Sleep(hours=) is inf, which is no length of time: {GIVE}"),
        (lambda: Sleep(10**15), "Sleep is 1000000000000000, which is longer than 1000 years: give a shorter one"),
        (lambda: Sleep("soon"), f"Sleep is 'soon', which is not understood: {GIVE}"),
        (lambda: Sleep(True), f"Sleep is True of type bool: {GIVE}"),
        (lambda: Sleep(date(2026, 1, 1)), f"Sleep is datetime.date(2026, 1, 1) of type date: {GIVE}"),  # type: ignore[arg-type]
        (
            lambda: Sleep(until=datetime(2026, 1, 1)),
            f"Sleep(until=) must be a timezone-aware datetime, not datetime.datetime(2026, 1, 1, 0, 0): {AWARE}",
        ),
        (
            lambda: Sleep(until=date(2026, 1, 1)),  # type: ignore[arg-type]
            f"Sleep(until=) must be a timezone-aware datetime, not datetime.date(2026, 1, 1): {AWARE}",
        ),
        (
            lambda: Sleep(until=datetime.max.replace(tzinfo=timezone(timedelta(hours=-5)))),
            "Sleep(until=) is 9999-12-31T23:59:59.999999-05:00: give a time from 0001-01-02 to 9999-12-30",
        ),
        (
            lambda: flowgen.call("x").opts(at=datetime.min.replace(tzinfo=UTC)),
            "at is 0001-01-01T00:00:00+00:00: give a time from 0001-01-02 to 9999-12-30",
        ),
    ],
)
def test_a_sleep_without_a_length_is_refused(make: Callable[[], object], said: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        make()
    assert str(refused.value).startswith(said)


@pytest.mark.bad_input("B49")
def test_what_is_a_length_of_time_or_an_instant_is_a_sleep() -> None:
    assert Sleep("2h") == Sleep(timedelta(hours=2)) == Sleep(7200) == Sleep(hours=2)
    assert Sleep(seconds=1, minutes=2, hours=3, days=4) == Sleep("4d3h2m1s")
    assert Sleep(0).duration == timedelta(0)
    assert Sleep(until=datetime(2000, 1, 1, tzinfo=UTC)).until == datetime(2000, 1, 1, tzinfo=UTC)
    assert Sleep(until=datetime(9999, 12, 30, tzinfo=UTC))


@pytest.mark.bad_input("B50")
@pytest.mark.parametrize(
    ("make", "said"),
    [
        *(
            (
                functools.partial(Retry, given),
                f"Retry(max_attempts=) is {given}: give a whole number of attempts in all",
            )
            for given in (-1, 0, math.inf)
        ),
        (lambda: Retry(initial=-1), "Retry(initial=) is -1, which is negative: give zero or more"),  # type: ignore[arg-type]
        (lambda: Retry(initial=math.nan), f"Retry(initial=) is nan, which is no length of time: {GIVE}"),  # type: ignore[arg-type]
        (lambda: Retry(maximum=math.inf), f"Retry(maximum=) is inf, which is no length of time: {GIVE}"),  # type: ignore[arg-type]
        (lambda: Retry(initial=5, maximum=1), "Retry(maximum=) is 0:00:01, less than initial=0:00:05: give a longer"),  # type: ignore[arg-type]
        (lambda: Retry(multiplier=0), "Retry(multiplier=) is 0: give a finite number of 1 or more"),
        (lambda: Retry(multiplier=math.nan), "Retry(multiplier=) is nan: give a finite number of 1 or more"),
        (lambda: Retry(jitter=2), "Retry(jitter=) is 2: give a part of the wait, 0 to 1"),
        (lambda: Retry(kind="random"), "Retry(kind=) is 'random': give one of exponential, linear, fixed"),  # type: ignore[arg-type]
        (
            lambda: Step(plain, 1).opts(timeout=0),
            "timeout is 0: give more than zero, as a timedelta, a number of seconds",
        ),
        (lambda: Step(plain, 1).opts(timeout=math.inf), f"timeout is inf, which is no length of time: {GIVE}"),
        (lambda: Step(plain, 1).opts(retry=5), "retry= takes a Retry, such as Retry(5), not 5"),  # type: ignore[arg-type]
    ],
)
def test_a_policy_without_sense_is_refused_where_it_is_made(make: Callable[[], object], said: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        make()
    assert str(refused.value).startswith(said)


@pytest.mark.bad_input("B51")
def test_a_flow_as_a_step_is_refused_where_it_is_written() -> None:
    with pytest.raises(DefinitionError) as refused:
        Step(flow, 1)
    assert str(refused.value) == (
        "Step(flow): a generator function is not a step; decorate it and use Invoke for a child run, or run it inline: "
        "`yield from flow(...)`"
    )
