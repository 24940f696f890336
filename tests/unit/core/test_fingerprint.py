"""Equal arguments have equal hashes, in every process."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections import OrderedDict
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID

import attrs
import pydantic
import pytest

from flowgen.core.codec import canonical
from flowgen.core.fingerprint import Fingerprint, args_hash, fingerprint, parse


class Color(Enum):
    RED = "red"


class Point(NamedTuple):
    x: int
    y: int


@attrs.frozen
class Order:
    id: str
    at: date
    cache: int = attrs.field(default=0, eq=False)


@dataclasses.dataclass
class Line:
    sku: str
    noise: int = dataclasses.field(default=0, compare=False)


class Model(pydantic.BaseModel):
    name: str


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [None, True, 1.5, "é"]}, '{"a":[null,true,1.5,"\\u00e9"],"b":1}'),
        (OrderedDict(b=1, a=2), '{"a":2,"b":1}'),
        ({3, 1, 2}, "[1,2,3]"),
        ({"x", 1}, '["x",1]'),
        ((1, 2), "[1,2]"),
        (Point(1, 2), "[1,2]"),
        (Color.RED, '"red"'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (Decimal("1.50"), '"1.50"'),
        (timedelta(hours=1), '"1:00:00"'),
        (datetime(2026, 1, 1, tzinfo=UTC), '"2026-01-01T00:00:00+00:00"'),
        (datetime(2026, 1, 1), '"2026-01-01T00:00:00"'),
        (b"\x00\xff", '"00ff"'),
        (PurePosixPath("/a"), '"/a"'),
        (Order("o", date(2026, 1, 1), 7), '{"at":"2026-01-01","id":"o"}'),
        (Line("s", 7), '{"sku":"s"}'),
        (Model(name="m"), '{"name":"m"}'),
        ({1: "a", None: "b", False: "c"}, None),
        pytest.param(10**5000, None, id="a long int"),
        pytest.param([10**5000], None, id="a long int in a list"),
        (float("nan"), "NaN"),
        ("\ud800\0", '"\\ud800\\u0000"'),
        (object(), '"<object builtins.object>"'),
        (len, '"<builtin_function_or_method builtins.len>"'),
        (Order, f'"<type {__name__}.Order>"'),
        ((x for x in ()), None),
    ],
)
def test_every_value_has_a_canonical_text(value: object, text: str | None) -> None:
    found = canonical(value)
    assert found == (text or found)
    assert " at 0x" not in found


def test_circular_values_have_one_too() -> None:
    circle: list[Any] = []
    circle.append(circle)
    assert "deeper" in canonical(circle)
    line = Line("x")
    line.sku = line  # type: ignore[assignment]
    assert "deeper" in canonical(line)


def test_mapping_order_does_not_matter_and_values_do() -> None:
    assert args_hash({"a": 1, "b": 2}) == args_hash({"b": 2, "a": 1})
    assert len({args_hash({"a": value}) for value in (1, 1.0, True, "1", None, [1], {"1": 1})}) == 7


def test_the_hash_is_the_same_in_every_process() -> None:
    code = "from flowgen.core.fingerprint import args_hash; print(args_hash({'s': {'x', 'y', 'z'}, 'n': 1}))"
    found = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout.strip()
        for seed in ("1", "2", "3")
    }
    assert found == {args_hash({"s": {"x", "y", "z"}, "n": 1})}
    assert args_hash({"order": "o-1", "cents": 500}) == "07af1cf4aefe7ea9"


def test_a_fingerprint_is_taken_apart_again() -> None:
    text = fingerprint("step", "shop:charge", "0123456789abcdef")
    assert text == "step:shop:charge:0123456789abcdef"
    assert parse(text) == Fingerprint("step", "shop:charge", "0123456789abcdef")
    assert parse(fingerprint("now", "", "")) == Fingerprint("now", "", "")


@pytest.mark.parametrize("text", ["", "step", "step:charge"])
def test_what_is_no_fingerprint_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no fingerprint"):
        parse(text)
