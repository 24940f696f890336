"""Filters are data: checked where they are written, stored in one form."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from flowgen import WaitEvent
from flowgen.core.filters import fields_of, filter_text
from flowgen.errors import DefinitionError


@pytest.mark.parametrize(
    ("where", "text"),
    [
        (None, None),
        ({}, None),
        ({"id": 7}, '[[["id"],"eq",7]]'),
        ({"a.b.0": "x"}, '[[["a","b","0"],"eq","x"]]'),
        ({"a": {"gt": 3, "le": 5}, "id": None}, '[[["id"],"eq",null],[["a"],"gt",3],[["a"],"le",5]]'),
        ({"a": {"in": (1, "x")}}, '[[["a"],"in",[1,"x"]]]'),
        ({"a": {"exists": False}}, '[[["a"],"exists",false]]'),
        ({"a": {"eq": {"b": 1}}}, '[[["a"],"eq",{"b":1}]]'),
        ({"at": {"lt": datetime(2030, 1, 1, tzinfo=UTC)}}, '[[["at"],"lt","2030-01-01T00:00:00+00:00"]]'),
        ({"␀": "\0"}, '[[["␀␀"],"eq","␀0"]]'),
    ],
)
def test_a_filter_has_one_stored_form(where: Any, text: str | None) -> None:
    assert filter_text(where, "where=") == text


def test_filters_that_ask_the_same_are_the_same() -> None:
    assert filter_text({"a": 1, "b": {"eq": 2}}, "w") == filter_text({"b": 2, "a": {"eq": 1}}, "w")
    assert WaitEvent("x", {"a": 1}) == WaitEvent("x", where={"a": {"eq": 1}}, timeout=5)
    assert WaitEvent("x", {"a": 1}) != WaitEvent("x", {"a": 2})
    assert repr(WaitEvent("x", {"a.b": 1})) == "WaitEvent('x', where={'a.b': {'eq': 1}})"


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("id = 7", "where= takes a mapping of paths to values"),
        ({"": 1}, "where= has the path ''"),
        ({"a..b": 1}, "where= has the path 'a..b'"),
        ({7: 1}, "where= has the path 7"),
        ({"a": {"above": 1}}, "where= 'a' has the condition 'above'"),
        ({"a": {}}, "where= 'a' has no condition"),
        ({"a": {"gt": True}}, "where= 'a': gt takes a number or text, not True"),
        ({"a": {"gt": [1]}}, "gt takes a number or text"),
        ({"a": {"in": "abc"}}, "in takes a list of values"),
        ({"a": {"exists": 1}}, "exists takes True or False, not 1"),
        ({"a": float("nan")}, "where= 'a' cannot be stored"),
        ({"a": {"in": [object()]}}, "where= 'a' cannot be stored"),
        ({f"a{n}": 1 for n in range(101)}, "where= has 101 conditions; 100 are allowed"),
    ],
)
def test_a_filter_that_could_not_be_meant_is_refused(where: Any, said: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        filter_text(where, "where=")
    assert said in str(refused.value)


def test_fields_are_paths_each_once() -> None:
    assert fields_of(None, "f") is None
    assert fields_of("a", "f") == ("a",)
    assert fields_of(["a", "b.c", "a"], "f") == ("a", "b.c")
    for wrong in ([], ["a..b"], [1]):
        with pytest.raises(DefinitionError):
            fields_of(wrong, "f")  # type: ignore[arg-type]
