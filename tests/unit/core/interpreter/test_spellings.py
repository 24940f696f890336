"""yield, yield from and await: one engine, the same keys, the same history."""

from __future__ import annotations

from typing import Any

import pytest

from flowgen.core.commands import Flow, Gather, Now, Sleep, Step
from flowgen.core.decision import Completed
from flowgen.testing.bench import Bench

from .running import begun, gives, replayed, workflow


def work(label: str) -> str:
    raise NotImplementedError


def inner_plain() -> Flow[Any]:
    first = yield Step(work, "a")
    second = yield Step(work, "b")
    return [first, second]


def plain() -> Flow[Any]:
    found = yield Gather(Step(work, "c"), INNER(), Step(work, "d"))
    inline = yield from INNER()
    yield Now()
    yield Sleep(0)
    return [list(found), inline]


def inner_typed() -> Flow[Any]:
    first = yield from Step(work, "a")
    second = yield from Step(work, "b")
    return [first, second]


def typed() -> Flow[Any]:
    found = yield from Gather(Step(work, "c"), TYPED(), Step(work, "d"))
    inline = yield from TYPED()
    yield from Now()
    yield from Sleep(0)
    return [list(found), inline]


async def inner_coroutine() -> Any:
    first = await Step(work, "a")
    return [first, await Step(work, "b")]


async def coroutine() -> Any:
    found = await Gather(Step(work, "c"), AWAITED(), Step(work, "d"))
    inline = await AWAITED()
    await Now()
    await Sleep(0)
    return [list(found), inline]


INNER = workflow(inner_plain, "inner")
TYPED = workflow(inner_typed, "inner")
AWAITED = workflow(inner_coroutine, "inner")
SPELLINGS = [workflow(plain, "spelled"), workflow(typed, "spelled"), workflow(coroutine, "spelled")]


def run(definition: Any) -> Bench:
    bench = begun(definition)
    while bench.calls:
        key = next(iter(bench.calls))
        gives(bench, key, key)
    assert isinstance(bench.finish, Completed)
    return bench


def test_the_histories_are_the_same() -> None:
    first, *others = [run(each) for each in SPELLINGS]
    for other in others:
        assert other.items == first.items
        assert other.finish == first.finish
        assert other.commands[0] != first.commands[1]


@pytest.mark.parametrize("now", range(3))
def test_code_moves_between_them_under_a_running_workflow(now: int) -> None:
    bench = run(SPELLINGS[0])
    for length in range(len(bench.items) + 1):
        _, was = replayed(bench, items=bench.items[:length])
        _, decision = replayed(bench, items=bench.items[:length], definition=SPELLINGS[now])
        assert decision == was
        assert decision.warnings == ()
