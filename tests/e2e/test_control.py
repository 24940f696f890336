"""What clients ask of runs that a worker has: cancel, pause, resume, retry, deadlines, results, lists."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import flowgen
from flowgen import (
    App,
    Cancelled,
    Flow,
    FlowgenError,
    Gather,
    Invoke,
    Retry,
    RunCancelled,
    RunFailed,
    RunNotFinished,
    RunNotFound,
    Sleep,
    Start,
    Step,
    StepContext,
    Wait,
)
from flowgen.client.queries import RunQuery
from flowgen.client.sync import Client
from flowgen.testing.clock import Clock
from flowgen.testing.workers import Workers
from tests.waiting import eventually


def test_a_cancelled_run_cleans_up_and_its_step_is_told(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    told = threading.Event()
    begun = threading.Event()
    cleaned: list[str] = []

    @app.task
    def long(ctx: StepContext) -> str:
        begun.set()
        if ctx.signal.wait(20):
            told.set()
        return "too late"

    def clean(what: str) -> None:
        cleaned.append(what)

    @app.workflow
    def work() -> Flow[str]:
        try:
            return (yield from Step(long))
        finally:
            yield Step(clean, "one")
            yield Sleep(0.01)
            yield Step(clean, "two")

    flowgen_worker(app)
    run = flowgen_client.start(work)
    assert begun.wait(10)
    flowgen_client.cancel(run.id, reason="not needed")
    with pytest.raises(RunCancelled, match="not needed"):
        run.result(timeout=10)
    assert told.wait(5)
    assert cleaned == ["one", "two"]
    assert flowgen_client.cancel(run.id).status == "cancelled", "a second cancel changes nothing"
    with pytest.raises(FlowgenError):
        flowgen_client.resume(run.id)
    with pytest.raises(FlowgenError):
        flowgen_client.pause(run.id)
    with pytest.raises(FlowgenError, match="final"):
        flowgen_client.retry(run.id)


def test_a_waiting_run_is_cancelled_within_a_second_or_two(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow
    def waits() -> Flow[None]:
        yield Sleep(hours=1)

    flowgen_worker(app)
    run = flowgen_client.start(waits)
    eventually(lambda: run.refresh().status == "waiting")
    flowgen_client.cancel(run.id)
    with pytest.raises(RunCancelled):
        run.result(timeout=2)


@pytest.mark.bad_input("B34")
def test_a_cancelled_run_that_no_worker_knows_any_more_stands_with_its_reason_and_cleans_up_when_one_does(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    cleaned: list[str] = []

    @app.workflow
    def sleeper() -> Flow[None]:
        try:
            yield Sleep(hours=1)
        finally:
            yield Step(cleaned.append, "cleaned").opts(name="clean")

    first = flowgen_worker(app)
    run = flowgen_client.start(sleeper)
    eventually(lambda: run.refresh().status == "waiting")
    first.stop()
    flowgen_worker(App())
    flowgen_client.cancel(run.id, "enough")
    said = f"{run.id} (sleeper) is pending: no live worker (of 1) knows 'sleeper'; start one that imports it; "
    said += "it is asked to cancel (enough), which waits for that"
    eventually(lambda: str(flowgen_client.why(run.id)) == said)
    flowgen_worker(app)
    with pytest.raises(RunCancelled, match="enough"):
        run.result(timeout=20)
    assert cleaned == ["cleaned"]


def test_a_handler_that_swallows_cancelled_is_cancelled_all_the_same(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow
    def stubborn() -> Flow[str]:
        while True:
            try:
                yield Sleep(0.001)
                yield Sleep(hours=1)
            except Cancelled:
                return "I do not care"

    flowgen_worker(app)
    run = flowgen_client.start(stubborn)
    eventually(lambda: run.refresh().status == "waiting")
    flowgen_client.cancel(run.id)
    with pytest.raises(RunCancelled):
        run.result(timeout=5)


def test_a_paused_run_stands_until_it_is_resumed(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    begun = threading.Event()
    enough = threading.Event()
    calls: list[int] = []

    def step(n: int) -> bool:
        calls.append(n)
        begun.set()
        return enough.wait(0.05)

    @app.workflow
    def work() -> Flow[int]:
        n = 0
        while not (yield from Step(step, n)):
            n += 1
        return n

    flowgen_worker(app)
    run = flowgen_client.start(work)
    assert begun.wait(10)
    flowgen_client.pause(run.id)
    eventually(lambda: run.refresh().status == "paused")
    done = len(calls)
    with pytest.raises(RunNotFinished, match="paused"):
        run.result(timeout=0.3)
    assert len(calls) == done
    enough.set()
    flowgen_client.resume(run.id)
    assert run.result(timeout=10) == done
    assert calls == [*range(done + 1)], "no step is called twice"


def test_a_paused_sleeper_does_not_wake(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_clock: Clock
) -> None:
    woke: list[int] = []

    @app.workflow
    def sleeper() -> Flow[str]:
        yield Sleep(hours=1)
        woke.append(1)
        return "awake"

    flowgen_worker(app)
    run = flowgen_client.start(sleeper)
    eventually(lambda: run.refresh().status == "waiting")
    flowgen_client.pause(run.id)
    flowgen_clock.advance("2h")
    with pytest.raises(RunNotFinished):
        run.result(timeout=0.5)
    assert not woke
    flowgen_client.resume(run.id)
    assert run.result(timeout=10) == "awake"


def test_a_failed_run_goes_on_from_what_it_has(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    calls: list[str] = []
    broken = [True]

    def first() -> int:
        calls.append("first")
        return 1

    def second() -> int:
        calls.append("second")
        if broken[0]:
            raise ValueError("broken")
        return 2

    @app.workflow
    def work() -> Flow[int]:
        one = yield from Step(first)
        return one + (yield from Step(second).opts(retry=Retry(1)))

    flowgen_worker(app)
    run = flowgen_client.start(work)
    for _ in range(2):
        with pytest.raises(RunFailed, match="broken"):
            run.result(timeout=10)
        flowgen_client.retry(run.id, by="me")
    eventually(lambda: calls.count("second") == 3)
    with pytest.raises(RunFailed, match="broken"):
        run.result(timeout=10)
    broken[0] = False
    flowgen_client.retry(run.id)
    assert run.result(timeout=10) == 3
    assert calls == ["first", *["second"] * 4]
    with pytest.raises(FlowgenError, match="only a failed run"):
        flowgen_client.retry(run.id)


def test_a_run_past_its_deadline_fails_as_timed_out(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    @app.workflow(deadline=0.3)
    def sleeps() -> Flow[None]:
        yield Sleep(hours=1)

    def busy() -> None:
        flowgen.current().signal.wait(20)

    @app.workflow(deadline=0.3)
    def works() -> Flow[None]:
        yield Step(busy)

    flowgen_worker(app)
    for run in (flowgen_client.start(sleeps), flowgen_client.start(works)):
        with pytest.raises(RunFailed) as failed:
            run.result(timeout=5)
        assert failed.value.failure.type == "RunTimedOut"


def test_a_deadline_can_be_set_while_the_run_goes_on(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    begun = threading.Event()

    def busy() -> None:
        begun.set()
        flowgen.current().signal.wait(20)

    @app.workflow
    def works() -> Flow[None]:
        yield Step(busy)

    @app.workflow
    def sleeps() -> Flow[None]:
        yield Sleep(hours=1)

    flowgen_worker(app)
    running, waiting = flowgen_client.start(works), flowgen_client.start(sleeps)
    assert begun.wait(10)
    eventually(lambda: waiting.refresh().status == "waiting")
    for run in (running, waiting):
        flowgen_client.set_deadline(run.id, 0.2)
        with pytest.raises(RunFailed, match="RunTimedOut"):
            run.result(timeout=5)


def test_result_raises_what_the_end_was(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    @app.workflow
    def ends(how: str) -> Flow[str]:
        if how == "raise":
            raise LookupError("gone")
        if how == "wait":
            yield Sleep(hours=1)
        yield Sleep(0)
        return how

    flowgen_worker(app)
    assert flowgen_client.start(ends, "well").result(timeout=10) == "well"
    with pytest.raises(RunFailed, match="LookupError: gone") as failed:
        flowgen_client.start(ends, "raise").result(timeout=10)
    assert failed.value.failure.type == "LookupError"
    waiting = flowgen_client.start(ends, "wait")
    eventually(lambda: waiting.refresh().status == "waiting")
    with pytest.raises(TimeoutError, match="timer"):
        waiting.result(timeout=0.1)
    with pytest.raises(RunNotFound):
        flowgen_client.result("no such run")


def test_a_thousand_runs_are_started_at_once_and_listed(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow
    def square(n: int) -> Flow[int]:
        yield Sleep(0)
        return n * n

    flowgen_worker(app)
    runs = flowgen_client.start_many([square.call(n).opts(tags=["odd"] if n % 2 else []) for n in range(1000)])
    assert [run.result(timeout=30) for run in runs] == [n * n for n in range(1000)]
    assert flowgen_client.count(RunQuery(name="square", status="completed")) == 1000
    assert flowgen_client.count(RunQuery(tags=["odd"])) == 500
    seen: set[Any] = set()
    cursor = None
    while True:
        page = flowgen_client.list(RunQuery(limit=300, after=cursor))
        seen |= {run.uuid for run in page}
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == {run.uuid for run in runs}


def test_an_id_attaches_in_any_state_and_never_revives(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    calls: list[int] = []

    @app.task
    def once(n: int) -> int:
        calls.append(n)
        return n

    first = flowgen_client.start(once.call(1).opts(id="only"))
    assert not first.attached
    assert flowgen_client.start(once.call(1).opts(id="only")).attached
    flowgen_worker(app)
    assert first.result(timeout=10) == 1
    again = flowgen_client.start(once.call(1).opts(id="only"))
    assert again.attached
    assert again.result(timeout=10) == 1
    with pytest.raises(flowgen.RunExists):
        flowgen_client.start(once.call(2).opts(id="only"))
    assert calls == [1]


def test_a_delayed_run_starts_at_its_time(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_clock: Clock
) -> None:
    @app.task
    def later() -> str:
        return "now"

    flowgen_worker(app)
    run = flowgen_client.start(later.call().opts(delay="1h"))
    with pytest.raises(RunNotFinished):
        run.result(timeout=0.4)
    flowgen_clock.advance("1h")
    assert run.result(timeout=5) == "now"


def test_higher_priority_goes_first(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    order: list[int] = []

    @app.task
    def note(n: int) -> None:
        order.append(n)

    runs = flowgen_client.start_many([note.call(n).opts(priority=n) for n in range(20)])
    flowgen_worker(app, concurrency=1)
    for run in runs:
        run.result(timeout=10)
    assert order == [*range(19, -1, -1)]


def test_a_run_that_is_retried_hears_of_children_that_ended_while_it_was_over(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow
    def child() -> Flow[str]:
        try:
            yield Sleep(hours=1)
        except Cancelled:
            yield Sleep(0.01)
        return "never"

    @app.workflow(deadline=1)
    def parent() -> Flow[list[str]]:
        ref = yield from Start(child)
        found = yield from Gather(Invoke(child), Wait(ref), return_exceptions=True)
        return [each.type for each in found]

    flowgen_worker(app)
    run = flowgen_client.start(parent)
    with pytest.raises(RunFailed, match="deadline"):
        run.result(timeout=20)
    children = flowgen_client.list(RunQuery(parent=run.uuid))
    assert len(children) == 2
    for each in children:
        eventually(lambda each=each: each.refresh().status == "cancelled")
    flowgen_client.retry(run.id)
    assert run.result(timeout=20) == ["RunCancelled", "RunCancelled"]
