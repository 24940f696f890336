"""The one rule of names and ids: what it takes, what it refuses, and what it says then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import flowgen
from flowgen import App, DefinitionError, Flow, Invoke, Schedule, Scope, Step, Unschedule
from flowgen.client.queries import RunQuery
from flowgen.core.names import MAX_ID, MAX_NAME, check_id, check_name
from tests.hostile import REFUSED, TAKEN


def charge(order: str) -> str:
    return order


def nothing() -> Flow[None]:
    yield from ()


CALL = App().task(charge).call("o")

NAMED: dict[str, Callable[[Any], object]] = {
    "a task": lambda name: App().task(name=name)(charge),
    "a workflow": lambda name: App().workflow(name=name)(nothing),
    "an App": lambda name: App(name=name),
    "the queue of a task": lambda name: App().task(queue=name)(charge),
    "the queue of a call": lambda name: CALL.opts(queue=name),
    "a tag": lambda name: CALL.opts(tags=[name]),
    "a call by name": lambda name: flowgen.call(name),
    "a command": lambda name: Step(charge, "o").opts(name=name),
    "a child": lambda name: Invoke(name),
    "the queue of a child": lambda name: Invoke("x").opts(queue=name),
    "the tag of a child": lambda name: Invoke("x").opts(tags=[name]),
    "a scope": lambda name: Scope(name, nothing()),
    "a schedule": lambda name: Schedule(CALL, name, cron="@daily"),
    "an unschedule": lambda name: Unschedule("x", name),
    "a query's name": lambda name: RunQuery(name=name).filter("s"),
    "a query's queue": lambda name: RunQuery(queue=[name]).filter("s"),
    "a query's tag": lambda name: RunQuery(tags=[name]).filter("s"),
}
IDS: dict[str, Callable[[Any], object]] = {
    "a run": lambda id: CALL.opts(id=id),
    "a child": lambda id: Invoke("x").opts(id=id),
    "a correlation id": lambda id: CALL.opts(correlation_id=id),
}


@pytest.mark.bad_input("B55")
@pytest.mark.parametrize("make", NAMED.values(), ids=NAMED)
def test_one_rule_holds_for_every_name(make: Callable[[Any], object]) -> None:
    for name in TAKEN:
        make(name)
    for what, name in {**REFUSED, "a slash": "a/b", "a hash": "a#2", "no text": 3, "bytes": b"a"}.items():
        with pytest.raises(DefinitionError) as refused:
            make(name)
        assert len(str(refused.value)) < 400, what
        assert str(refused.value).isprintable(), what


@pytest.mark.bad_input("B55", "B56")
@pytest.mark.parametrize("make", IDS.values(), ids=IDS)
def test_one_rule_holds_for_every_id(make: Callable[[Any], object]) -> None:
    for id in [*TAKEN, "orders/2030#1"]:
        make(id)
    for what, id in {**REFUSED, "no text": 3, "bytes": b"a"}.items():
        with pytest.raises(DefinitionError) as refused:
            make(id)
        assert len(str(refused.value)) < 400, what
        assert str(refused.value).isprintable(), what


@pytest.mark.bad_input("B55", "B56")
@pytest.mark.parametrize(("check", "most", "kind"), [(check_name, MAX_NAME, "name"), (check_id, MAX_ID, "id")])
def test_the_limit_counts_bytes_and_is_told(check: Callable[[Any, str], str], most: int, kind: str) -> None:
    assert check("x" * most, "it") == "x" * most
    assert check("ü" * (most // 2), "it") == "ü" * (most // 2)
    with pytest.raises(DefinitionError) as refused:
        check("ü" * (most // 2) + "x", "it")
    assert str(refused.value) == f"it {'ü' * 60!r}... has {most + 1} bytes; {most} are allowed"
    with pytest.raises(DefinitionError, match=f"^it '' is not an? {kind}: it must not be empty and must have no "):
        check("", "it")
    with pytest.raises(DefinitionError, match="^it must be a string, not None of type NoneType$"):
        check(None, "it")
    with pytest.raises(DefinitionError, match="^it must be a string, not a value of type int$"):
        check(10**5000, "it")
    with pytest.raises(DefinitionError, match=r"^it 'a\\ud800' has lone surrogates, which cannot be stored$"):
        check("a\ud800", "it")


def test_an_id_may_have_what_a_name_may_not() -> None:
    assert check_id("orders/2030#1") == "orders/2030#1"
    with pytest.raises(DefinitionError, match="'/' or '#'"):
        check_name("orders/2030#1", "a name")
