"""Now, Uuid, Random: made once, recorded, then replayed; left out by changed code they are skipped."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from flowgen.core.commands import Flow, Now, Random, Step, Uuid

from .running import begun, gives, replayed, result, workflow


def charge(what: str) -> str:
    raise NotImplementedError


def facts() -> Flow[Any]:
    now: datetime = yield from Now()
    uuid: UUID = yield from Uuid()
    number: float = yield from Random()
    assert isinstance(now, datetime)
    assert isinstance(uuid, UUID)
    assert uuid.version == 4
    assert 0 <= number < 1
    return [str(now), str(uuid), number]


def test_a_replay_gives_the_same() -> None:
    bench = begun(facts)
    _, decision = replayed(bench)
    assert decision.finish == bench.finish


def test_two_are_two() -> None:
    def handler() -> Flow[Any]:
        first = yield Uuid()
        second = yield Uuid()
        return first != second

    assert result(begun(handler)) is True


def test_code_that_no_longer_asks_for_one_skips_it() -> None:
    def before() -> Flow[Any]:
        yield Now()
        yield Random()
        yield Uuid()
        return (yield Step(charge, "a"))

    def after() -> Flow[Any]:
        return (yield Step(charge, "a"))

    bench = begun(workflow(before, "facts"))
    gives(bench, "charge", "ch")
    _, decision = replayed(bench, definition=workflow(after, "facts"))
    assert decision.finish == bench.finish
