"""Flows made of commands: batches that are cut, done and put together, and polls."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from flowgen import App, Context, DefinitionError, Flow, PermanentError, Scope, Sleep, Step, StepFailed, WaitTimedOut
from flowgen.flows import BatchResult, Range, batch, poll, split
from flowgen.testing import drive

app = App(name="flows")


@app.task
def count(source: str) -> int:
    raise NotImplementedError


@app.task
def load(part: Range, source: str) -> int:
    raise NotImplementedError


@app.workflow
def load_slowly(ctx: Context, part: Range, source: str) -> Flow[int]:
    yield Sleep(1)
    return part.end


@app.task
def total(done: BatchResult[int], source: str) -> list[Any]:
    told = [[each.part.start, each.part.end, each.failure.message] for each in done.failures]
    return [source, done.results, told, done.worker_count, done.success_rate]


@app.task
def ready(job: str) -> str:
    raise NotImplementedError


@pytest.mark.parametrize(
    ("found", "cut", "sizes"),
    [
        (1000, {"workers": 3}, [334, 334, 332]),
        (1000, {"size": 400}, [400, 400, 200]),
        (5, {"workers": 4}, [2, 2, 1]),
        (3, {"workers": 10}, [1, 1, 1]),
        (7, {"size": 100}, [7]),
        (0, {"workers": 3}, []),
        (1, {"workers": 1}, [1]),
    ],
)
def test_ranges_cover_everything_once_in_order(found: int, cut: dict[str, int], sizes: list[int]) -> None:
    parts = split(found, **cut)
    assert [part.end - part.start for part in parts] == sizes
    assert [n for part in parts for n in range(part.start, part.end)] == list(range(found))


def test_cursors_are_cut_into_the_first_and_the_last_of_each_part() -> None:
    assert split(["a", "c", "f", "k", "x"], workers=2) == [Range("a", "f"), Range("k", "x")]
    assert split([], size=3) == []


@pytest.mark.parametrize("cut", [{}, {"workers": 0}, {"size": -1}, {"workers": 1, "size": 1}, {"workers": True}])
def test_a_cut_that_does_not_fit_is_refused(cut: Any) -> None:
    with pytest.raises(DefinitionError, match="a batch is cut by workers=.* or by size="):
        split(10, **cut)


@pytest.mark.parametrize("found", [-1, None, "abc", True, 1.5, {"a": 1}])
def test_what_is_no_count_is_refused(found: Any) -> None:
    with pytest.raises(DefinitionError, match="gives a count or a list of cursors, not"):
        split(found, workers=2)


def loaded(part: Range, source: str) -> int:
    if source == "bad" and part.start == 334:
        raise PermanentError("no such row")
    return part.start + part.end


def driven(found: int, source: str, work: Any = load, **options: Any) -> Any:
    @app.workflow(name="driven")
    def handler() -> Flow[list[Any]]:
        return (yield from batch(count, work, total, source, workers=3, **options))

    return drive(handler.call(), outcomes={count: lambda source: found, load: loaded, work: loaded, total: total.fn})


def test_results_come_in_order_with_what_is_known_of_the_workers() -> None:
    trace = driven(1000, "good")
    assert trace.result == ["good", [334, 1002, 1668], [], 3, 1.0]
    assert list(trace.outcomes) == ["count", "map/0/load", "map/1/load", "map/2/load", "total"]


def test_nothing_to_do_goes_straight_to_the_aggregator() -> None:
    trace = driven(0, "empty")
    assert trace.result == ["empty", [], [], 0, 1.0]
    assert list(trace.outcomes) == ["count", "total"]


def test_with_continue_the_aggregator_is_given_the_failures() -> None:
    rate = 2 / 3
    assert driven(1000, "bad", on_failure="continue").result == [
        "bad",
        [334, 1668],
        [[334, 668, "no such row"]],
        3,
        rate,
    ]


def test_with_fail_fast_the_first_failure_ends_the_batch() -> None:
    with pytest.raises(StepFailed, match="map/1/load failed after 1 attempt: PermanentError: no such row"):
        driven(1000, "bad", limit=1)


def test_a_workflow_works_in_a_child_run_of_its_own_and_a_task_when_it_is_told_so() -> None:
    assert driven(9, "x", load_slowly).result == ["x", [3, 9, 15], [], 3, 1.0]
    kinds = {entry.key: (entry.fingerprint or "").split(":")[0] for entry in driven(9, "x", as_runs=True).items}
    assert kinds["map/0/load"] == "invoke"


def test_a_batch_that_is_not_cut_is_refused_before_anything_runs() -> None:
    @app.workflow(name="uncut")
    def handler() -> Flow[Any]:
        return (yield from batch(count, load, total, "x"))

    with pytest.raises(DefinitionError, match="a batch is cut by workers="):
        drive(handler.call())


def test_a_batch_in_a_coroutine_stands_in_a_scope() -> None:
    @app.workflow(name="awaited")
    async def handler() -> list[Any]:
        return await Scope("nightly", batch(count, load, total, "x", size=2))

    trace = drive(handler.call(), outcomes={count: lambda source: 3, load: loaded, total: total.fn})
    assert trace.result == ["x", [2, 5], [], 2, 1.0]
    assert "nightly/map/1/load" in trace.outcomes


def polled(answers: list[str], **options: Any) -> Any:
    @app.workflow(name="polled")
    def handler() -> Flow[str]:
        try:
            return (yield from poll(ready, "job", until=lambda state: state == "done", **options))
        except WaitTimedOut as late:
            return f"{late.name}: {late}"

    left = iter(answers)
    return drive(handler.call(), outcomes={ready: lambda job: next(left)})


def test_a_poll_sleeps_between_calls_until_the_answer_is_there() -> None:
    trace = polled(["new", "busy", "done"], every="1m")
    assert trace.result == "done"
    assert trace.commands == [Step(ready, "job"), Sleep(60), Step(ready, "job"), Sleep(60), Step(ready, "job")]


def test_a_poll_waits_longer_each_time_up_to_its_maximum() -> None:
    trace = polled(["a", "b", "c", "d", "done"], every=1, backoff=3, maximum="5s")
    waits = [each.duration for each in trace.commands if isinstance(each, Sleep)]
    assert waits == [timedelta(seconds=n) for n in (1, 3, 5, 5)]


def test_a_poll_ends_with_its_timeout() -> None:
    assert (
        polled(["a"] * 10, every=4, timeout=10).result
        == "ready: ready did not come to what it is polled for within 10 s"
    )
    assert polled(["a", "done"], every=4, timeout=10).result == "done"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"every": 0}, "every"),
        ({"every": 1, "backoff": 0.5}, "backoff"),
        ({"every": 1, "backoff": float("nan")}, "backoff"),
        ({"every": 1, "maximum": "soon"}, "maximum"),
        ({"every": 1, "timeout": -1}, "timeout"),
    ],
)
def test_a_poll_that_does_not_fit_is_refused(options: Any, said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        polled([], **options)
