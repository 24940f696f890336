"""All bad inputs at once, each in a run of its own beside a good neighbour, in one batch of one worker.

Each fails its own run, once and with its own words; nobody is hurt, nothing is left running.
"""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import attrs
import psycopg
import pytest

import flowgen
from flowgen import (
    App,
    Flow,
    Gather,
    Graph,
    Invoke,
    Retry,
    RetryableError,
    RunFailed,
    Schedule,
    SetProgress,
    Sleep,
    Start,
    Step,
    Transaction,
)
from flowgen.client.queries import RunQuery
from flowgen.client.sync import Client
from flowgen.flows import poll
from flowgen.testing.workers import Workers

Handler = Callable[..., Any]
CASES: dict[str, tuple[Handler, str]] = {}
"""Handlers by name, with what their runs fail with."""
ROWS = [f"B{n}" for n in (1, 2, 4, 5, 6, 8, 10, 11, 13, 14, 15, 16, 18, 19, 26, 29, 32, 36, 37, 38, 39, 45, 49, 50, 51)]
LIMIT = 200_000
"""Bytes of a payload, so that a payload that is too large can be a small one."""


def fails(said: str) -> Callable[[Handler], Handler]:
    """A handler whose run fails with a message that this expression matches."""

    def add(handler: Handler) -> Handler:
        CASES[handler.__name__] = (handler, said)
        return handler

    return add


def gives(make: Callable[[], Any]) -> Handler:
    """The function of a step that returns what is made."""

    def given() -> Any:
        return make()

    return given


def result_of(name: str, make: Callable[[], Any], said: str) -> None:
    def handler() -> Flow[Any]:
        return (yield Step(gives(make)))

    handler.__name__ = handler.__qualname__ = f"result_{name}"
    CASES[handler.__name__] = (
        handler,
        "StepFailed: given failed after 1 attempt: CodecError: the result of given " + said,
    )


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def circular() -> Any:
    table: dict[str, Any] = {}
    table["self"] = [table]
    return table


NO_FORM = "which has no JSON form, allowed: None, bool, int, float, str, lists, dicts, enums"
AT_3 = r"cannot be stored at \$\.items\[3\]\.price: "
for name, value, said in (
    ("lambda", lambda: {"items": [0, 1, 2, {"price": lambda: 0}]}, AT_3 + "found function, " + NO_FORM),
    ("nan", lambda: {"items": [0, 1, 2, {"price": math.nan}]}, AT_3 + "float nan has no JSON form: finite floats are"),
    ("inf", lambda: [-math.inf], r"cannot be stored at \$\[0\]: float -inf has no JSON form"),
    ("decimal_nan", lambda: Decimal("NaN"), r"cannot be stored at \$: Decimal NaN has no JSON form"),
    ("surrogate", lambda: {"a": "\udc80"}, r"cannot be stored at \$\.a: str with a lone surrogate \('\\udc80' at ind"),
    ("set", lambda: {"a": {1}}, r"cannot be stored at \$\.a: found set without an annotation: annotate it, as set\[st"),
    ("bytes", lambda: [b"x"], r"cannot be stored at \$\[0\]: found bytes without an annotation: return bytes and anno"),
    ("memoryview", lambda: memoryview(b"x"), r"cannot be stored at \$: found memoryview without an annotation"),
    ("digits", lambda: {"n": 10**4300}, r"cannot be stored at \$\.n: an int of about 4301 digits is too long: 4300 di"),
    ("int_keys", lambda: {1: "a", "1": "b"}, r"cannot be stored at \$: the key 1 is of type int, and JSON has only te"),
    ("naive", lambda: datetime(2026, 1, 1), r"cannot be stored at \$: naive datetime .*use a timezone-aware one"),
    ("deep", lambda: nested(300), r"cannot be stored at \$\[0\].*: nested deeper than 200 levels, or circular: flatte"),
    ("circular", circular, r"cannot be stored at \$\.self\[0\].*: nested deeper than 200 levels, or circular"),
    ("large", lambda: "x" * LIMIT, rf"is {LIMIT + 2} bytes of JSON, over the limit of {LIMIT}: store it elsewhere and"),
):  # fmt: skip
    result_of(name, value, said)


@attrs.frozen
class Order:
    id: int
    total: Decimal


def ok(n: Any = 1) -> Any:
    return n


def typed(order: Order) -> Order:
    return attrs.evolve(order, id="x")  # type: ignore[arg-type]


@fails(r"CodecError: the result of typed cannot be stored at \$\.id: found str, allowed: int")
def result_of_another_type() -> Flow[Any]:
    yield Step(typed, Order(1, Decimal(1)))


@fails(r"^CodecError: the result cannot be stored at \$\.deep\[0\]\.er: found object, " + NO_FORM)
def result_of_the_handler() -> Flow[Any]:
    yield Sleep(0)
    return {"deep": [{"er": object()}]}


@fails(rf"^CodecError: the result is {LIMIT + 2} bytes of JSON, over the limit of {LIMIT}")
def large_result_of_the_handler() -> Flow[Any]:
    yield Sleep(0)
    return "x" * LIMIT


@fails(r"^CodecError: Step\(ok\) argument 'n' cannot be stored at \$\.items\[1\]: float inf has no JSON form")
def argument_of_a_step() -> Flow[Any]:
    yield Step(ok, {"items": [1, math.inf]})


@fails(r"^CodecError: the input of child cannot be stored at \$\.n: float nan has no JSON form")
def argument_of_a_child_by_name() -> Flow[Any]:
    yield Invoke("child", n=math.nan)


@fails(rf"^CodecError: what invoke child stores is \d+ bytes of JSON, over the limit of {LIMIT}: ")
def large_argument_of_a_child() -> Flow[Any]:
    yield Invoke("child", n="x" * LIMIT)


@fails(r"^TypeError: ok\(\) takes from 0 to 1 positional arguments but 2 were given")
def too_many_arguments() -> Flow[Any]:
    yield Step(ok, 1, 2)  # type: ignore[call-arg]


@fails(r"^DefinitionError: the name of a command 'a\\x00b' is not a name: .* no control characters")
def a_name_with_nul() -> Flow[Any]:
    yield Step(ok).opts(name="a\0b")


@fails(r"^DefinitionError: the id of a run 'a\\x00b' is not an id: it must not be empty and must have")
def an_id_with_nul() -> Flow[Any]:
    yield Start("child").opts(id="a\0b")


@fails(r"given failed after 1 attempt: ValueError: nul \\x00, surrogate \\udc80 and escape")
def message_that_no_column_takes() -> Flow[Any]:
    def given() -> None:
        raise ValueError("nul \0, surrogate \udc80 and escape \x1b")

    yield Step(given).opts(retry=Retry(1))


@fails(r"^StepFailed: given failed after 1 attempt: ValueError: xxxxx+\.\.\.\d+ bytes dropped$")
def message_of_a_million_bytes() -> Flow[Any]:
    def given() -> None:
        raise ValueError("x" * 1_000_000)

    yield Step(given).opts(retry=Retry(1))


class Nasty(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(one, two)
        self.lock = threading.Lock()

    def __str__(self) -> str:
        raise RuntimeError("no words")


@fails(r"given failed after 1 attempt: Nasty: <the message cannot be shown: str\(\) raised RuntimeError>")
def error_that_cannot_be_shown() -> Flow[Any]:
    def given() -> None:
        raise Nasty(1, 2)

    yield Step(given).opts(retry=Retry(1))


@fails(r"given failed after 1 attempt: ExceptionGroup: many \(2 sub-exceptions\)")
def error_that_is_a_group_and_its_own_cause() -> Flow[Any]:
    def given() -> None:
        group = ExceptionGroup("many", [ValueError("a"), Nasty(1, 2)])
        group.__cause__ = group.exceptions[0]
        group.exceptions[0].__cause__ = group
        raise group

    yield Step(given).opts(retry=Retry(1))


@fails(r"given failed after 1 attempt: SystemExit: 3")
def function_that_exits() -> Flow[Any]:
    def given() -> None:
        raise SystemExit(3)

    yield Step(given).opts(retry=Retry(1))


@fails(r"^SystemExit: 4$")
def handler_that_exits() -> Flow[Any]:
    yield Sleep(0)
    raise SystemExit(4)


@fails(r"^RuntimeError: generator raised StopIteration$")
def handler_that_raises_stop_iteration() -> Flow[Any]:
    yield Sleep(0)
    raise StopIteration(3)


@fails("RuntimeError: generator raised StopIteration|StopIteration: 3|StopIteration")
def function_that_raises_stop_iteration() -> Flow[Any]:
    def given() -> None:
        raise StopIteration(3)

    yield Step(given).opts(retry=Retry(1))


@fails("^RecursionError: ")
def recursion_without_end() -> Flow[Any]:
    def deeper(n: int) -> Flow[int]:
        return (yield from deeper(n + 1))

    yield from deeper(0)


@fails("^ValueError: generator already executing$")
def handler_that_drives_itself() -> Flow[Any]:
    flows: list[Any] = []

    def inner() -> Flow[Any]:
        next(flows[0])
        yield Sleep(0)

    flows.append(inner())
    yield from flows[0]


HERE = r"at .*test_side_by_side\.py:\d+"


@fails(rf"^DefinitionError: the handler yielded None of type NoneType {HERE}, which is not a command: a handler yields")
def yields_none() -> Flow[Any]:
    yield None  # type: ignore[misc]


def helper() -> Flow[int]:
    yield Sleep(0)
    return 1


@fails(rf'^DefinitionError: the handler yielded .* {HERE}, which is not a command: use "yield from helper\(\.\.\.\)"')
def yields_a_generator() -> Flow[Any]:
    yield helper()  # type: ignore[misc]


@fails("^DuplicateNameError: the name 'same' is given twice in this run: give each command a name of its own, or leave")
def gives_one_name_twice() -> Flow[Any]:
    yield Step(ok, 1).opts(name="same")
    yield Step(ok, 2).opts(name="same")


@fails("^DefinitionError: Sleep is nan, which is no length of time: give a timedelta, a number of seconds, or a string")
def sleeps_for_nan() -> Flow[Any]:
    yield Sleep(math.nan)


@fails(r"^DefinitionError: Sleep\(until=\) .*2026")
def sleeps_until_a_naive_time() -> Flow[Any]:
    yield Sleep(until=datetime(2026, 1, 1))


@fails(r"^DefinitionError: Retry\(max_attempts=\) is 0: give a whole number of attempts in all, 1 \(no retry\) or more")
def never_tries() -> Flow[Any]:
    yield Step(ok).opts(retry=Retry(0))


@fails(
    r"given failed after 1 attempt: DefinitionError: the result of given is the command Step\(ok\) of type Step, and o"
)
def function_that_returns_a_command() -> Flow[Any]:
    yield Step(gives(lambda: Step(ok)))


@fails(
    r'DefinitionError: the result of given is the flow helper, .*: run it inline, "yield from helper\(\.\.\.\)", in the'
)
def function_that_returns_a_flow() -> Flow[Any]:
    yield Step(gives(helper))


@fails(
    r"^DefinitionError: the result is the command Step\(ok\) of type Step, .* `return \(yield from Step\(\.\.\.\)\)`"
)
def returns_a_command() -> Flow[Any]:
    yield Step(ok)
    return Step(ok)


@fails(
    r"^DefinitionError: the result is the command Sleep\(seconds=1\) of type Sleep, .* `return await Sleep\(\.\.\.\)`"
)
async def returns_a_command_in_a_coroutine() -> Any:
    await Step(ok)
    return Sleep(1)


@fails(r"^DefinitionError: the result is the flow helper, .* `return \(yield from helper\(\.\.\.\)\)`")
def returns_a_flow() -> Flow[Any]:
    yield Step(ok)
    return helper()


class Unbound:
    """As a proxy whose object is not there."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("unbound")


class Delegating(Exception):
    """What it does not have it looks for in a response, which it does not have."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.response, name)


class NeverAsked(RetryableError):
    @property
    def retry_after(self) -> Any:
        raise RuntimeError("no wait")

    @retry_after.setter
    def retry_after(self, wait: Any) -> None: ...


def raising(error: type[Exception]) -> Handler:
    def raises() -> None:
        raise error

    return raises


@fails(r"^StepFailed: given failed after 1 attempt: RuntimeError: unbound")
def function_that_returns_a_proxy_of_nothing() -> Flow[Any]:
    yield Step(gives(Unbound))


@fails("^CodecError: the input of child cannot be stored: looking at it raised RuntimeError$")
def argument_that_is_a_proxy_of_nothing() -> Flow[Any]:
    yield Invoke("child", Unbound())


@fails("^CodecError: the progress cannot be stored: looking at it raised RuntimeError$")
def progress_that_is_a_proxy_of_nothing() -> Flow[Any]:
    yield SetProgress({"of": Unbound()})


@fails("^StepFailed: raises failed after 2 attempts: Delegating$")
def function_that_raises_an_error_that_looks_for_itself() -> Flow[Any]:
    yield Step(raising(Delegating)).opts(retry=Retry(2, initial=0.001))


@fails(r"^StepFailed: raises failed after 1 attempt: RuntimeError: no wait")
def function_that_raises_an_error_whose_wait_raises() -> Flow[Any]:
    yield Step(raising(NeverAsked))


def leaves(*_: Any) -> Any:
    raise SystemExit("leaves")


@fails("^SystemExit: leaves$")
def node_whose_condition_leaves() -> Flow[Any]:
    yield Graph(Step(ok), Step(ok).opts(name="late", after=ok, when=leaves))


@fails("^SystemExit: leaves$")
def poll_whose_condition_leaves() -> Flow[Any]:
    yield from poll(ok, until=leaves, every=1)


@fails("^Delegating$")
def raises_an_error_that_looks_for_itself() -> Flow[Any]:
    yield Step(ok)
    raise Delegating


@fails(r"nested failed after 1 attempt: DefinitionError: Step\(ok\) was awaited in the function of a step")
def function_that_awaits_a_command() -> Flow[Any]:
    async def nested() -> Any:
        return await Step(ok)

    yield Step(nested)


@fails(r"^CodecError: the input does not fit the signature of .*takes_a_number.*missing 1 required positional arg")
def takes_a_number(n: int) -> Flow[Any]:
    yield Step(ok, n)


@fails("^DefinitionError: cron expression '61 \\* \\* \\* \\*': the minute field '61' is not understood")
def schedules_badly() -> Flow[Any]:
    yield Schedule(flowgen.call("child"), "bad", cron="61 * * * *")


@fails(r"^StepFailed: pays failed after 1 attempt: CodecError: the result of pays cannot be stored at \$: float nan")
def transaction_with_a_bad_result() -> Flow[Any]:
    def pays(conn: psycopg.Connection[Any]) -> float:
        return math.nan

    yield Transaction(pays)


@fails("^StepFailed: .* failed after 1 attempt: ")
def one_bad_branch_of_many() -> Flow[Any]:
    yield Gather(*[Step(ok, n) for n in range(5)], Step(gives(object)))


@pytest.mark.bad_input(*ROWS)
def test_every_bad_input_fails_its_own_run_and_no_other(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow
    def neighbour(n: int) -> Flow[int]:
        for step in range(3):
            yield Step(ok, step)
        yield Sleep(0.05)
        return n

    @app.workflow
    def ends_before_its_first_yield() -> Flow[str]:
        if datetime.now(UTC):
            return "ended"
        yield Sleep(0)

    calls: list[Any] = [flowgen.call(name) for name in CASES]
    for handler, _ in CASES.values():
        app.workflow(handler)
    started = flowgen_client.start_many(
        [call for n, bad in enumerate(calls) for call in (bad, neighbour.call(n))]
        + [ends_before_its_first_yield.call()]
    )
    flowgen_worker(app, max_payload=LIMIT)
    *pairs, ended = started
    wrong: dict[str, str] = {}
    for run, (name, (_, said)) in zip(pairs[::2], CASES.items(), strict=True):
        try:
            told = f"completed: {run.result(timeout=15)!r}"
        except RunFailed as failed:
            told = str(failed.failure)
        if not re.search(said, told):
            wrong[name] = told[:300]
    assert wrong == {}
    assert [run.result(timeout=60) for run in pairs[1::2]] == [*range(len(CASES))]
    assert ended.result(timeout=60) == "ended"
    page = flowgen_client.list(RunQuery(limit=500))
    assert {(run.recoveries, run.attempt) for run in page} == {(0, 1)}
    assert {run.status for run in page} == {"completed", "failed"}
    for run in pairs[::2]:
        flowgen_client.history(run.id)
