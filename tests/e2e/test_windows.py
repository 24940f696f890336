"""Time windows: runs of a definition are worked at while one of its windows is open, and at no other time."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import App, Checkpoint, Context, Flow, Invoke, RunCancelled, Sleep, Step, StepContext, Window
from flowgen.client.sync import Client
from flowgen.testing.clock import Clock
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program
from tests.waiting import eventually


def hours(opens: int, closes: int) -> Window:
    """A window that opens and closes so many hours from now."""
    now = datetime.now(UTC)
    first, last = (f"{now + timedelta(hours=ahead):%H:%M}" for ahead in (opens, closes))
    return Window(first, last)


def closed(client: Client, run_id: str) -> bool:
    return client.why(run_id).code == "window_closed"


def test_a_run_waits_for_its_window_while_others_go_on(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_clock: Clock
) -> None:
    at_night = hours(2, 10)

    @app.task(window=at_night)
    def nightly() -> str:
        return "done"

    @app.task
    def anytime() -> str:
        return "done"

    run = flowgen_client.start(nightly)
    flowgen_worker(app)
    assert flowgen_client.start(anytime).result(timeout=20) == "done"
    why = eventually(lambda: (seen := flowgen_client.why(run.id)).code == "window_closed" and seen)
    assert f"it is outside of its window ({at_night}), which opens at " in why.sentence
    assert (why.status, why.stuck) == ("pending", False)
    flowgen_clock.advance("2h")
    assert run.result(timeout=20) == "done"


@pytest.mark.parametrize("durability", ["step", "checkpoint"])
def test_the_end_of_a_window_takes_hold_of_a_loop_that_goes_on_from_its_cursor_when_it_opens_again(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_clock: Clock, durability: Any
) -> None:
    calls: list[int] = []
    enough = threading.Event()

    def item(n: int) -> bool:
        calls.append(n)
        return enough.is_set()

    @app.workflow(window=hours(-1, 1), durability=durability)
    def loop(ctx: Context) -> Flow[int]:
        n = ctx.checkpoint_cursor or 0
        while not (yield from Step(item, n)):
            n += 1
            yield Checkpoint(n)
        return n

    flowgen_worker(app)
    run = flowgen_client.start(loop)
    eventually(lambda: len(calls) > 10, timeout=20)
    flowgen_clock.advance("1h")
    eventually(lambda: closed(flowgen_client, run.id), timeout=20)
    done = len(calls)
    assert flowgen_client.get(run.id).status == "pending"
    enough.set()
    flowgen_clock.advance("21h")
    assert closed(flowgen_client, run.id)
    flowgen_clock.advance("1h")
    assert run.result(timeout=20) == done
    assert calls == list(range(done + 1)), "no call was made again"


def test_a_call_in_flight_comes_to_its_end_and_its_outcome_is_kept_over_the_closed_window(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_clock: Clock, db: psycopg.Connection[Any]
) -> None:
    begun, gate = threading.Event(), threading.Event()
    calls: list[str] = []

    @app.task
    def long(ctx: StepContext) -> str:
        calls.append("long")
        begun.set()
        assert gate.wait(60)
        return "told" if ctx.signal.aborted else "left alone"

    def after() -> None:
        calls.append("after")

    @app.workflow(window=hours(-1, 1))
    def work() -> Flow[str]:
        outcome = yield from Step(long)
        yield Step(after)
        return outcome

    flowgen_worker(app)
    run = flowgen_client.start(work)
    assert begun.wait(20)
    flowgen_clock.advance("1h")
    flowgen_client.start(work)  # who holds it has noticed that the window is closed
    eventually(lambda: db.execute("SELECT 1 FROM flowgen.run WHERE status = 2").fetchone(), timeout=20)
    assert flowgen_client.get(run.id).status == "running"
    gate.set()
    eventually(lambda: closed(flowgen_client, run.id), timeout=20)
    assert calls == ["long"]
    flowgen_clock.advance("22h")
    assert run.result(timeout=20) == "left alone"
    assert calls[:2] == ["long", "after"]


def test_a_run_that_waited_over_the_end_of_its_window_goes_on_when_it_opens(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_clock: Clock
) -> None:
    begun: list[int] = []

    @app.task
    def child(n: int) -> int:
        begun.append(n)
        return n

    @app.workflow(window=hours(-1, 1))
    def parent() -> Flow[int]:
        yield Sleep("2h")
        return (yield from Invoke(child, 5))

    flowgen_worker(app)
    run = flowgen_client.start(parent)
    eventually(lambda: flowgen_client.get(run.id).status == "waiting", timeout=20)
    flowgen_clock.advance("3h")
    eventually(lambda: closed(flowgen_client, run.id), timeout=20)
    assert begun == []
    flowgen_clock.advance("20h")
    assert run.result(timeout=20) == 5
    assert begun == [5]


def test_outside_of_its_window_a_run_that_has_not_begun_is_cancelled_at_once_and_one_that_has_cleans_up_when_it_opens(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_clock: Clock
) -> None:
    cleaned: list[str] = []
    looping = threading.Event()

    def item() -> None:
        looping.set()

    @app.workflow(window=hours(-1, 1))
    def loop() -> Flow[None]:
        try:
            while True:
                yield Step(item)
                yield Checkpoint(None)
        finally:
            yield Step(cleaned.append, "up")

    flowgen_worker(app)
    run = flowgen_client.start(loop)
    assert looping.wait(20)
    flowgen_clock.advance("1h")
    eventually(lambda: closed(flowgen_client, run.id), timeout=20)
    fresh = flowgen_client.start(loop)
    assert flowgen_client.cancel(fresh.id).status == "cancelled"
    flowgen_client.cancel(run.id)
    why = eventually(lambda: (seen := flowgen_client.why(run.id)).code == "window_closed" and seen)
    assert why.sentence.endswith("; it is asked to cancel, which waits for that")
    assert cleaned == []
    flowgen_clock.advance("22h")
    with pytest.raises(RunCancelled):
        run.result(timeout=20)
    assert cleaned == ["up"]


def test_code_without_the_window_frees_what_waits_for_it(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.task(window=hours(2, 3))
    def job() -> str:
        return "old"

    newer = App()

    @newer.task(name="job")
    def newer_job() -> str:
        return "new"

    flowgen_worker(app)
    run = flowgen_client.start(job)
    eventually(lambda: closed(flowgen_client, run.id), timeout=20)
    flowgen_worker(newer)
    assert run.result(timeout=20) in ("old", "new")


PROGRAM = """
from flowgen import Checkpoint, Window

@workflow(window=Window(os.environ["OPENS"], os.environ["CLOSES"]))
def loop(ctx: Context) -> Flow[int]:
    n = ctx.checkpoint_cursor or 0
    while n < 3:
        yield Step(note, f"item {n}")
        if n == 1:
            yield Step(gate, "killed")
        n += 1
        yield Checkpoint(n)
    return n
"""


def test_what_a_killed_worker_leaves_outside_of_the_window_is_taken_up_when_it_opens(
    program: Program, flowgen_client: Client, flowgen_clock: Clock
) -> None:
    window = hours(-1, 1)
    program.write(PROGRAM)
    first = program.start(OPENS=window.opens, CLOSES=window.closes)
    run = flowgen_client.start(flowgen.call("loop"))
    program.noted("item 1", timeout=60)
    flowgen_clock.advance("1h")
    first.kill()
    program.start(OPENS=window.opens, CLOSES=window.closes)
    eventually(lambda: closed(flowgen_client, run.id), timeout=60)
    program.open("killed")
    flowgen_clock.advance("22h")
    assert run.result(timeout=60) == 3
    assert [line for line in program.notes() if line.startswith("item")] == ["item 0", "item 1", "item 2"]
