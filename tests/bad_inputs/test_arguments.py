"""Arguments of a step: what cannot be stored is refused at its yield, before its function runs."""

from __future__ import annotations

import math
import re
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

from flowgen import App, CodecError, Flow, Gather, Step, StepContext, Transaction
from flowgen.testing import drive


@attrs.frozen
class Line:
    price: Decimal
    tags: set[str]


def circular() -> list[Any]:
    items: list[Any] = []
    items.append({"again": items})
    return items


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def charge(order: Any) -> str:
    raise AssertionError("its arguments were to be refused before")


def charge_typed(order: dict[int, set[str]]) -> str:
    raise AssertionError("its arguments were to be refused before")


def refused(command: Callable[[], Step[Any] | Transaction[Any]]) -> str:
    """What the handler is told at the yield, with where that was."""
    app = App()

    @app.workflow
    def handler() -> Flow[list[str]]:
        try:
            yield command()
        except CodecError as error:
            return [str(error), *error.__notes__]
        return []

    said, where = drive(handler.call(), run=True).result
    assert re.fullmatch(r"yielded at .*test_arguments\.py:\d+", where)
    return said


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(
            lambda: {"items": [1, 2, 3, {"price": math.nan}]},
            "$.items[3].price: float nan has no JSON form: finite floats are allowed; store None or a str instead",
            marks=pytest.mark.bad_input("B2"),
        ),
        pytest.param(lambda: [math.inf], "$[0]: float inf has no JSON form", marks=pytest.mark.bad_input("B2")),
        pytest.param(lambda: -math.inf, "$: float -inf has no JSON form", marks=pytest.mark.bad_input("B2")),
        pytest.param(
            lambda: {"name": "\udc80"},
            r"$.name: str with a lone surrogate ('\udc80' at index 0) is no Unicode text: decode the bytes with "
            "errors='replace', or store bytes",
            marks=pytest.mark.bad_input("B5"),
        ),
        pytest.param(
            lambda: {"\ud800": 1}, r"$['\ud800']: str with a lone surrogate", marks=pytest.mark.bad_input("B5")
        ),
        pytest.param(
            lambda: {"call": lambda: 0},
            "$.call: found function, which has no JSON form, allowed: None, bool, int,",
            marks=pytest.mark.bad_input("B1"),
        ),
        pytest.param(
            lambda: (n for n in range(3)),
            "$: found generator, which has no JSON form",
            marks=pytest.mark.bad_input("B1"),
        ),
        pytest.param(
            lambda: [{1, 2}],
            "$[0]: found set without an annotation: annotate it, as set[str], or return a sorted list",
            marks=pytest.mark.bad_input("B1"),
        ),
        pytest.param(
            lambda: {"raw": bytearray(b"x")},
            "$.raw: found bytearray without an annotation: return bytes and annotate",
            marks=pytest.mark.bad_input("B6"),
        ),
        pytest.param(
            lambda: {"n": 10**5000},
            "$.n: an int of about 5001 digits is too long: 4300 digits are allowed",
            marks=pytest.mark.bad_input("B8"),
        ),
        pytest.param(
            lambda: {"by": {1: "one"}},
            "$.by: the key 1 is of type int, and JSON has only text keys: annotate the dict",
            marks=pytest.mark.bad_input("B11"),
        ),
        pytest.param(
            lambda: {1: "one", "1": "text", None: "none"},
            "$: the key 1 is of type int",
            marks=pytest.mark.bad_input("B11"),
        ),
        pytest.param(
            lambda: [datetime(2026, 1, 1)],
            "$[0]: naive datetime 2026-01-01T00:00:00: nobody knows which instant it is",
            marks=pytest.mark.bad_input("B13"),
        ),
        pytest.param(
            lambda: nested(201),
            "nested deeper than 200 levels, or circular: flatten it, or store a reference",
            marks=pytest.mark.bad_input("B14"),
        ),
        pytest.param(
            lambda: nested(50_000), "nested deeper than 200 levels, or circular", marks=pytest.mark.bad_input("B14")
        ),
        pytest.param(circular, "nested deeper than 200 levels, or circular", marks=pytest.mark.bad_input("B15")),
    ],
)
def test_an_argument_that_cannot_be_stored_is_refused_at_the_yield(make: Callable[[], Any], said: str) -> None:
    value = make()
    told = refused(lambda: Step(charge, value))
    assert told.startswith("Step(charge) argument 'order' cannot be stored at $")
    assert said in told
    while isinstance(value, list) and value and isinstance(value[0], list):
        value = value[0]  # a deep list is taken apart here, not by Python's stack


@pytest.mark.bad_input("B1")
def test_a_socket_is_refused_by_every_command_that_calls_a_function() -> None:
    def pay(conn: Any, order: Any) -> None: ...

    with socket.socket() as opened:
        said = refused(lambda: Step(charge, {"order": opened}))
        assert "argument 'order' cannot be stored at $.order: found socket.socket, which has no JSON form" in said
        assert refused(lambda: Transaction(pay, opened)).startswith(
            "Transaction(pay) argument 'order' cannot be stored at $: found socket.socket"
        )


@pytest.mark.bad_input("B1")
def test_an_annotation_says_more_about_an_argument_that_has_no_form_of_its_own() -> None:
    said = refused(lambda: Step(charge_typed, {1: {2}}))  # type: ignore[dict-item]
    assert said == "Step(charge_typed) argument 'order' cannot be stored at $['1']: found int, allowed: str"


def test_a_refused_argument_in_a_branch_fails_that_branch_and_calls_nothing() -> None:
    called: list[int] = []

    def counts(n: Any) -> None:
        called.append(n)

    app = App()

    @app.workflow
    def handler() -> Flow[str]:
        try:
            yield Gather(Step(counts, math.nan), Step(counts, math.inf))
        except CodecError as error:
            return str(error)
        return ""

    assert drive(handler.call(), run=True).result.startswith("Step(counts) argument 'n' cannot be stored at $: float")
    assert called == []


def test_what_an_annotation_or_its_own_type_can_store_is_an_argument() -> None:
    line = Line(Decimal("1.5"), {"a"})
    given = [
        (lambda x: x, 1), (lambda x: x, "\0\u2400"), (lambda x: x, -0.0), (lambda x: x, [1, {"a": None}]),
        (lambda x: x, Path("/tmp")), (lambda x: x, (1, 2)), (lambda x: x, line.price),
        (lambda x: x, datetime(2026, 1, 1, tzinfo=UTC)), (lambda x: x, "NaN"), (lambda x: x, "é\U0001f9e8"),
    ]  # fmt: skip

    def typed(ctx: StepContext, line: Line, raw: bytes, by: dict[int, str], any_path: str) -> Line:
        return line

    app = App()

    @app.workflow
    def handler() -> Flow[int]:
        for n, (fn, value) in enumerate(given):
            yield Step(fn, value).opts(name=f"value {n}")
        yield Step(typed, line, b"\xff", {1: "x"}, Path("a"))  # type: ignore[arg-type]
        return len(given)

    assert drive(handler.call(), run=True).result == len(given)
