"""Keys: the place in the tree of branches plus the name; never the order of events."""

from __future__ import annotations

from typing import Any

import pytest

from flowgen.core.commands import Flow, Gather, Now, Scope, Sleep, Step

from .running import begun, gives, keys, workflow


def charge(label: str) -> str:
    raise NotImplementedError


def run(fn: Any) -> list[str]:
    bench = begun(fn)
    while bench.calls:
        gives(bench, next(iter(bench.calls)), "x")
    return keys(bench)


@pytest.mark.bad_input("B32")
def test_automatic_names_are_numbered() -> None:
    def handler() -> Flow[Any]:
        for _ in range(3):
            yield Step(charge, "a")
        yield Sleep(0)
        yield Now()

    assert run(handler) == ["charge", "charge#2", "charge#3", "sleep", "now"]


@pytest.mark.bad_input("B31")
def test_the_same_value_yielded_twice_is_two_commands() -> None:
    def handler() -> Flow[Any]:
        step = Step(charge, "a")
        yield step
        yield step

    assert run(handler) == ["charge", "charge#2"]


def test_an_automatic_name_gives_way_to_the_authors() -> None:
    def handler() -> Flow[Any]:
        yield Step(charge, "a").opts(name="charge")
        yield Step(charge, "a")
        yield Step(charge, "a")

    assert run(handler) == ["charge", "charge#2", "charge#3"]


def helper(label: str) -> Flow[Any]:
    yield Step(charge, label)


INLINE = workflow(helper)


def test_an_inline_definition_opens_a_scope() -> None:
    def nested() -> Flow[Any]:
        yield from INLINE("a")
        yield Step(charge, "b")

    outer = workflow(nested)

    def handler() -> Flow[Any]:
        yield from INLINE("a")
        yield Step(charge, "b")
        yield from outer()
        yield from INLINE("c")

    assert run(handler) == ["helper/charge", "charge", "nested/helper/charge", "nested/charge", "helper#2/charge"]


def test_a_helper_without_a_decorator_opens_none() -> None:
    def plain(label: str) -> Flow[Any]:
        yield Step(charge, label)

    def handler() -> Flow[Any]:
        yield from plain("a")
        yield from plain("b")

    assert run(handler) == ["charge", "charge#2"]


def test_branches_are_numbered_by_position_and_scopes_by_name() -> None:
    def handler() -> Flow[Any]:
        yield Gather(Step(charge, "a"), helper("b"), INLINE("c"), Gather(Step(charge, "d")))
        yield Gather(Step(charge, "e")).opts(name="all")
        yield Scope("s", Gather(Step(charge, "f")))

    assert run(handler) == [
        "gather/0/charge",
        "gather/1/charge",
        "gather/2/charge",
        "gather/3/gather/0/charge",
        "all/0/charge",
        "s/gather/0/charge",
    ]


def test_they_do_not_depend_on_the_order_of_events() -> None:
    def handler() -> Flow[Any]:
        yield Gather(helper("a"), helper("b"))
        yield Step(charge, "c")

    there, back = begun(handler), begun(handler)
    for key in ("gather/0/charge", "gather/1/charge", "charge"):
        gives(there, key, "x")
    for key in ("gather/1/charge", "gather/0/charge", "charge"):
        gives(back, key, "x")
    assert sorted(keys(there)) == sorted(keys(back))
