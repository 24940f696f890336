"""Replay: the same code path as the live run, silent, with the same context."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import pytest

import flowgen
from flowgen.core.commands import Flow, Gather, Now, Sleep, Step
from flowgen.core.context import Context, StepContext
from flowgen.core.definitions import DefinitionOptions, Task
from flowgen.core.retry import Retry

from .running import begun, gives, over, replayed, result, workflow


def work(label: str) -> list[int]:
    raise NotImplementedError


def test_each_prefix_of_a_history_leads_to_the_same_end() -> None:
    def handler() -> Flow[Any]:
        found = yield Gather(Step(work, "a"), Step(work, "b"))
        yield Sleep(1)
        yield Now()
        return list(found)

    bench = begun(handler)
    gives(bench, "gather/1/work", [2])
    gives(bench, "gather/0/work", [1])
    bench.move_to(bench.now + timedelta(seconds=1))
    for length in range(len(bench.items)):
        _, decision = replayed(bench, items=bench.items[:length])
        assert decision.finish is None
    assert replayed(bench)[1].finish == bench.finish


@pytest.mark.bad_input("B42")
def test_each_send_is_a_fresh_value() -> None:
    def handler() -> Flow[Any]:
        got = yield Step(work, "a")
        got.append(4)
        yield Sleep(1)
        return got

    bench = begun(handler)
    gives(bench, "work", [1])
    bench.restart()
    bench.go()
    bench.move_to(bench.now + timedelta(seconds=1))
    assert result(bench) == [1, 4]


def test_the_logger_is_silent_until_the_history_is_used_up() -> None:
    lines: list[str] = []

    def handler(ctx: Context[Any]) -> Flow[Any]:
        try:
            ctx.logger.info("one")
            yield Step(work, "a")
            ctx.logger.info("two")
            yield Sleep(1)
            ctx.logger.info("three")
        finally:
            ctx.logger.info("closed")

    bench = begun(handler, log=lambda level, text, fields, error: lines.append(text))
    gives(bench, "work", [1])
    assert lines == ["one", "two"]
    for _ in range(3):
        bench.restart()
        bench.go()
    assert lines == ["one", "two"]
    bench.move_to(bench.now + timedelta(seconds=1))
    assert lines == ["one", "two", "three", "closed"]


def test_closing_says_nothing_and_contains_errors() -> None:
    lines: list[str] = []

    def handler(ctx: Context[Any]) -> Flow[Any]:
        try:
            yield Step(work, "a")
        finally:
            ctx.logger.info("closed")
            raise ValueError("boom")

    bench = begun(handler, log=lambda level, text, fields, error: lines.append(text))
    bench.execution.close()
    bench.execution.close()
    assert lines == []


def test_the_handler_runs_with_its_context_as_the_current_one() -> None:
    def handler(ctx: Context[Any]) -> Flow[Any]:
        yield Sleep(0)
        return flowgen.current() is ctx

    assert result(begun(handler)) is True


def test_a_generator_task_may_take_a_step_context() -> None:
    def handler(ctx: StepContext[Any], n: int) -> Flow[Any]:
        yield Sleep(0)
        return [type(ctx).__name__, ctx.get_input("n"), ctx.get_config("a")]

    definition = Task(handler, None, DefinitionOptions(retry=Retry(1), config={"a": 1}))
    assert result(begun(definition, n=3)) == ["StepContext", 3, 1]


def test_now_and_the_next_sequence_replay() -> None:
    seen: list[list[Any]] = []

    def handler(ctx: Context[Any]) -> Flow[Any]:
        seen.append([ctx.now, ctx.next_sequence])
        yield Step(work, "a")
        seen[-1] += [ctx.now, ctx.next_sequence]
        yield Sleep(5)
        seen[-1] += [ctx.now, ctx.next_sequence]

    bench = begun(handler)
    bench.now += timedelta(seconds=3)
    gives(bench, "work", [1])
    bench.move_to(bench.now + timedelta(seconds=5))
    execution = over(bench)
    execution.view.now = datetime(2026, 1, 1, tzinfo=UTC)
    execution.advance(bench.now + timedelta(days=1))
    assert seen[0] == seen[1]
    assert seen[0][1::2] == [1, 2, 4]


def test_without_a_creation_time_now_is_the_first_advance() -> None:
    bench = begun(workflow(work_flow))
    plain = over(bench, items=[])
    plain.view.now = None
    plain.advance(bench.now)
    assert plain.context.now == bench.now


def work_flow() -> Flow[Any]:
    yield Step(work, "a")


def test_an_entry_that_is_delivered_after_the_end_changes_nothing() -> None:
    bench = begun(workflow(work_flow))
    gives(bench, "work", [1])
    again = attrs.evolve(bench.items[0], index=9)
    assert bench.execution.advance(bench.now, [again]).finish == bench.finish


def test_what_was_set_aside_answers_no_longer_and_is_kept_in_the_trail() -> None:
    bench = begun(workflow(work_flow))
    gives(bench, "work", [1])
    from flowgen.core.entries import Entry, EntryKind
    from flowgen.core.history import set_aside_value

    value = set_aside_value([1], "why", "me")
    bench.items.append(Entry(2, EntryKind.SET_ASIDE, "", value=value))
    _, decision = replayed(bench)
    assert [call.key for call in decision.calls] == ["work"]
