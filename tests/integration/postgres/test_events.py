"""The one place that applies filters, and the functions around it, in PostgreSQL."""

from __future__ import annotations

import json
from random import Random
from typing import Any
from uuid import UUID

from flowgen.core.filters import filter_text
from flowgen.postgres.events import triggered_run_id
from flowgen.testing.simulation.events import matches
from tests.integration.postgres.store import Store

CASES: list[tuple[Any, Any, bool]] = [
    ({"id": 7}, {"id": 7}, True),
    ({"id": 7.0}, {"id": 7}, True),
    ({"id": "7"}, {"id": 7}, False),
    ({"id": True}, {"id": 1}, False),
    ({"id": None}, {"id": None}, True),
    ({}, {"id": None}, False),
    ({"a": {"b": [{"c": 1}]}}, {"a.b.0.c": 1}, True),
    ({"a": {"b": [{"c": 1}]}}, {"a.b.1.c": 1}, False),
    ({"a": 1}, {"a": {"ne": 2}}, True),
    ({}, {"a": {"ne": 2}}, False),
    ({"a": 10}, {"a": {"gt": 9}}, True),
    ({"a": "10"}, {"a": {"gt": "9"}}, False),
    ({"a": "10"}, {"a": {"gt": 9}}, False),
    ({"a": "é"}, {"a": {"gt": "z"}}, True),
    ({"a": "B"}, {"a": {"lt": "a"}}, True),
    ({"a": 3}, {"a": {"ge": 3, "le": 3}}, True),
    ({"a": True}, {"a": {"ge": 0}}, False),
    ({"a": 10**30}, {"a": {"gt": 10**29}}, True),
    ({"a": 1e22}, {"a": 10**22}, True),
    ({"a": "x"}, {"a": {"in": ["x", 1]}}, True),
    ({"a": "y"}, {"a": {"in": []}}, False),
    ({"a": None}, {"a": {"exists": True}}, True),
    ({}, {"a": {"exists": False}}, True),
    ({"a": {"x": 1, "y": [1.0]}}, {"a": {"eq": {"y": [1], "x": 1}}}, True),
    ({"a.b": 1}, {"a.b": 1}, False),
    ([{"a": 1}], {"0.a": 1}, True),
    ("text", {"a": 1}, False),
    (None, {"a": {"exists": False}}, True),
    ({"a": "x'; drop table run; --"}, {"a": "x'; drop table run; --"}, True),
    ({"'": 1, '"': 2}, {"'": 1, '"': 2}, True),
]


def fits(store: Store, payload: str, where: Any) -> bool:
    found = store.one(
        "select flowgen.event_matches(flowgen.event_body(%s), %s::jsonb)", payload, filter_text(where, "w")
    )
    assert isinstance(found, bool)
    return found


def test_a_filter_fits_what_it_says(store: Store) -> None:
    for payload, where, fit in CASES:
        assert fits(store, json.dumps(payload), where) is fit, (payload, where)
        assert matches(payload, filter_text(where, "w")) is fit, (payload, where)


def test_the_simulated_store_applies_filters_as_the_database_does(store: Store) -> None:
    random = Random(7)  # noqa: S311 - it makes cases
    values: list[Any] = [
        None,
        True,
        False,
        0,
        1,
        -1.5,
        1.0,
        "",
        "a",
        "b",
        "B",
        [],
        [1],
        ["a", 2],
        {},
        {"a": 1},
        {"b": [1]},
    ]
    for _ in range(300):
        payload: Any = {key: random.choice(values) for key in random.sample(["a", "b", "c"], 2)}
        if random.random() < 0.2:
            payload = random.choice(values)
        operator = random.choice(["eq", "ne", "in", "gt", "ge", "lt", "le", "exists"])
        value: Any = random.choice(values)
        if operator == "in":
            value = random.sample(values, 3)
        elif operator == "exists":
            value = random.random() < 0.5
        elif operator in ("gt", "ge", "lt", "le"):
            value = random.choice([0, 1, -1.5, "", "a", "b"])
        where = {random.choice(["a", "b", "a.b", "b.0", "a.a"]): {operator: value}}
        text = filter_text(where, "w")
        assert fits(store, json.dumps(payload), where) is matches(payload, text), (payload, where)


def test_what_jsonb_cannot_hold_or_is_sealed_fits_no_filter(store: Store) -> None:
    for payload in ('{"a":"\\u0000"}', '"␀crot:xyz"', '{"a":1e999999}'):
        assert not fits(store, payload, {"a": {"exists": True}})
        assert not fits(store, payload, {"a": {"exists": False}})
        assert fits(store, payload, None)


def test_the_id_of_a_triggered_run_is_the_same_in_python(store: Store) -> None:
    event_id = UUID(int=77)
    found = store.one("select flowgen.event_run_id(%s, %s)", event_id, "päck")
    assert found == triggered_run_id(event_id, "päck")


def test_an_event_finds_a_wait_by_an_index_however_many_wait_for_others(store: Store) -> None:
    found = store.one(
        'select flowgen.event_probe(\'{"a": {"b": 1.0}}\', \'["a", "b"]\') = jsonb_hash_extended(\'1\', 0),'
        " flowgen.event_probe('{}', '[\"a\"]') is null, flowgen.event_probe('{}', '') = 0"
    )
    assert found == (True, True, True)
