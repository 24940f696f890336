"""A command that is made and never yielded is found when its handler is defined."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import flowgen
import flowgen.core.commands as fc
from flowgen.app import App
from flowgen.core.commands import Checkpoint, Flow, Sleep, Step
from flowgen.core.forgotten import ForgottenYieldWarning, find_forgotten


def charge(order: str) -> str:
    return order


app = App()


@app.workflow
def helper(n: int) -> Flow[int]:
    yield Sleep(n)
    return n


def lines_of_this_file() -> list[str]:
    with open(__file__) as file:
        return file.readlines()


LINES = lines_of_this_file()


def found(fn: Callable[..., Any]) -> list[str]:
    return [each.written for each in find_forgotten(fn, LINES)]


def forgets(order: str) -> Flow[None]:
    Sleep(2)
    if order:
        Step(
            charge,
            order,
        ).opts(name="a")
    for _ in range(3):
        flowgen.Sleep(1)
        fc.Checkpoint()
    try:
        helper(3)
    finally:
        Sleep(seconds=1).opts(name="b").opts(name="c")
    yield Sleep(1)


def yields(order: str) -> Flow[None]:
    yield Sleep(2)
    yield from Step(charge, order)
    nap = Sleep(3)
    yield nap
    yield from helper(2)
    charge(order)
    print(Sleep(2))
    [Sleep(1)].append(Sleep(2))
    "".join([])

    def inner() -> None:
        Sleep(2)

    inner()


def shadows(Sleep: Any) -> Flow[None]:
    Sleep(2)
    yield Checkpoint()


def imports_inside() -> Flow[None]:
    from flowgen import Sleep as Nap

    yield Nap(2)


async def awaits(order: str) -> None:
    Sleep(2)
    await Sleep(2)


def test_a_command_that_is_never_yielded_is_found() -> None:
    assert found(forgets) == [
        "Sleep(2)",
        "Step(charge, order).opts(name='a')",
        "flowgen.Sleep(1)",
        "fc.Checkpoint()",
        "helper(3)",
        "Sleep(seconds=1).opts(name='b').opts(name='c')",
    ]
    assert found(awaits) == ["Sleep(2)"]


def test_its_line_and_its_cure_are_told() -> None:
    first, second, *_ = find_forgotten(forgets, LINES)
    assert LINES[first.line - 1].strip() == "Sleep(2)"
    assert LINES[second.line - 1].strip() == "Step("
    assert str(first) == (
        f"{__file__}:{first.line}: Sleep(2) is made and never yielded, so nothing happens: write `yield from Sleep(2)`"
    )
    assert "`await Sleep(2)`" in str(find_forgotten(awaits, LINES)[0])


@pytest.mark.parametrize("fn", [yields, shadows, imports_inside, charge])
def test_what_is_yielded_or_no_command_is_not_found(fn: Callable[..., Any]) -> None:
    assert found(fn) == []


def test_a_name_of_an_enclosing_function_is_known() -> None:
    Nap = Sleep

    def inner() -> Flow[None]:
        Nap(2)
        late()
        yield Sleep(1)

    assert found(inner) == ["Nap(2)"]
    late = Sleep
    assert found(inner) == ["Nap(2)", "late()"]


def test_a_long_command_is_shown_short() -> None:
    def long() -> Flow[None]:
        Step(charge, "ooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo")
        yield Sleep(1)

    assert "o... is made" in str(find_forgotten(long, LINES)[0])


@pytest.mark.parametrize(
    "lines", [[], ["\n"] * 1000, ["def other(): ...\n"] * 1000, ["(((\n"] * 1000, ["x = 1\n"] * 1000, ["\0"] * 1000]
)
def test_a_source_that_is_not_there_or_another_one_finds_nothing(lines: list[str]) -> None:
    assert find_forgotten(forgets, lines) == []


@pytest.mark.parametrize("fn", [len, functools.partial(forgets, "o"), lambda: Sleep(2), type, 3])
def test_what_has_no_source_finds_nothing(fn: Any) -> None:
    assert find_forgotten(fn, LINES) == []


@pytest.mark.bad_input("B30")
def test_the_decorator_warns_at_the_line_of_the_command() -> None:
    def handler() -> Flow[None]:
        Sleep(2)
        yield Sleep(1)

    with pytest.warns(ForgottenYieldWarning, match=r"test_forgotten\.py:\d+: Sleep\(2\)") as caught:
        App().workflow(handler)
    assert caught[0].filename == __file__
    assert caught[0].lineno == handler.__code__.co_firstlineno + 1
    with pytest.warns(ForgottenYieldWarning):
        App().workflow(awaits)


def test_a_plain_task_makes_commands_for_whom_it_likes() -> None:
    def plain() -> None:
        Sleep(2)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        App().task(plain)


def test_a_handler_without_a_source_is_defined_without_a_word() -> None:
    scope: dict[str, Any] = {"Sleep": Sleep}
    exec(compile("def handler():\n    Sleep(2)\n    yield Sleep(1)\n", "<generated>", "exec"), scope)
    assert App().workflow(scope["handler"]).name == "handler"
    assert "<generated>" not in sys.modules
