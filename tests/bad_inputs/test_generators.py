"""Handlers that never end, cling to life, or repeat themselves."""

from __future__ import annotations

import os
import random
import time

import pytest

from flowgen import App, Cancelled, Checkpoint, Context, Divergence, Flow, Now, Retry, RunCancelled, Sleep, Step, Uuid
from flowgen.client.sync import Client
from flowgen.core import closing, interpreter
from flowgen.failpoints import evicting
from flowgen.testing import drive, replay
from flowgen.testing.workers import Workers
from flowgen.worker import watchdog
from tests.waiting import eventually


def ok(n: int = 1) -> int:
    return n


def boom() -> None:
    raise ValueError("boom")


@pytest.mark.bad_input("B17")
def test_a_very_long_history_is_warned_of_with_its_length_and_the_cure(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert interpreter.LONG_HISTORY == 10_000
    monkeypatch.setattr(interpreter, "LONG_HISTORY", 1000)

    @app.workflow
    def long(count: int) -> Flow[int]:
        for _ in range(count):
            yield Now()
        return count

    @app.workflow
    def checkpoints(ctx: Context, count: int) -> Flow[int]:
        for n in range(ctx.checkpoint_cursor or 0, count):
            yield Now()
            yield Checkpoint(n + 1)
        return count

    with pytest.warns(UserWarning, match="entries are in its history, and each start") as told:
        assert drive(long.call(2500)).result == 2500
    assert [str(each.message).split()[0] for each in told] == ["1000", "2000"]
    assert "save a Checkpoint with data in its loop, or go on in another run" in str(told[0].message)
    assert drive(checkpoints.call(600)).result == 600  # a warning would be an error


@pytest.mark.bad_input("B26", "B31")
def test_the_same_command_yielded_twice_is_two_commands(app: App) -> None:
    @app.workflow
    def twice() -> Flow[list[int]]:
        command = Step(ok, 7)
        one: int = yield command
        two: int = yield command
        return [one, two]

    @app.workflow
    def never() -> Flow[int]:
        return 5
        yield Sleep(0)

    trace = drive(twice.call(), outcomes={ok: [1, 2]})
    assert trace.result == [1, 2]
    assert [item.key for item in trace.items] == ["ok", "ok#2"]
    assert drive(never.call()).result == 5
    assert drive(never.call()).items == ()


@pytest.mark.bad_input("B33")
def test_an_error_that_the_handler_catches_is_the_same_on_every_replay(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    seen: list[str] = []

    @app.workflow
    def catches() -> Flow[str]:
        said = ""
        try:
            yield Step(boom).opts(retry=Retry(1))
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            seen.append(said)
        yield Sleep(0.01)
        yield Sleep(0.01)
        return said

    flowgen_worker(app, cache=0)
    said = flowgen_client.start(catches).result(timeout=20)
    assert said == "StepFailed: boom failed after 1 attempt: ValueError: boom"
    assert set(seen) == {said}
    assert len(seen) == 3 or (evicting() and len(seen) > 3)


@pytest.mark.bad_input("B27")
def test_an_endless_loop_of_yields_is_cancelled_at_its_next_yield(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow
    def endless() -> Flow[None]:
        while True:
            yield Step(ok)

    @app.workflow
    def ticks() -> Flow[None]:
        while True:
            yield Now()

    flowgen_worker(app)
    runs = flowgen_client.start_many([endless.call(), ticks.call()])
    for run in runs:
        eventually(lambda run=run: len(flowgen_client.history(run.id)) > 10)
        flowgen_client.cancel(run.id, reason="enough")
    for run in runs:
        with pytest.raises(RunCancelled, match="enough"):
            run.result(timeout=20)


@pytest.mark.bad_input("B28")
def test_a_handler_that_never_comes_to_its_next_yield_is_parked_as_stuck_with_its_stack(
    app: App,
    flowgen_client: Client,
    flowgen_worker: Workers,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(watchdog, "SLOW", 0.2)
    monkeypatch.setattr(watchdog, "LIMIT", 0.8)

    @app.workflow
    def spins() -> Flow[int]:
        n = yield from Step(ok)
        while True:
            n += 1

    @app.workflow
    def neighbour() -> Flow[int]:
        yield Sleep(0.1)
        return (yield from Step(ok))

    flowgen_worker(app, lease=1)
    stuck, *others = flowgen_client.start_many([spins.call(), *[neighbour.call() for _ in range(5)]])
    assert [run.result(timeout=30) for run in others] == [1] * 5
    eventually(lambda: stuck.refresh().status == "parked", timeout=30)
    parked = stuck.refresh()
    assert parked.error is not None
    assert parked.error.type == "Stuck"
    told = str(parked.error)
    assert "the handler did not come to its next yield within 0.8 s; it was interrupted here:" in told
    assert "n += 1" in told or "while True:" in told
    assert parked.recoveries == 0, "the heartbeat went on"
    assert "has not come to its next yield" in caplog.text
    assert "no other run goes on; move the work into a Step" in caplog.text
    assert flowgen_client.start(neighbour).result(timeout=20) == 1


def test_a_replay_that_takes_long_is_not_stuck_while_it_comes_from_yield_to_yield(
    app: App,
    flowgen_client: Client,
    flowgen_worker: Workers,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(watchdog, "SLOW", 0.5)
    monkeypatch.setattr(watchdog, "LIMIT", 1.5)
    between = [0.0]

    @app.workflow
    def long() -> Flow[str]:
        for _ in range(50):
            time.sleep(between[0])
            yield Now()
        yield Sleep(0.3)
        return "done"

    flowgen_worker(app, cache=0)
    run = flowgen_client.start(long)
    eventually(lambda: run.refresh().status == "waiting")
    between[0] = 0.05
    assert run.result(timeout=30) == "done"
    assert "has not come to its next yield" not in caplog.text


@pytest.mark.bad_input("B34", "B35")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Python says it once more
def test_a_handler_that_swallows_everything_is_cancelled_and_closed_all_the_same(
    app: App,
    flowgen_client: Client,
    flowgen_worker: Workers,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(closing, "MAX_CLEANUPS", 20)

    @app.workflow
    def clings() -> Flow[str]:
        for n in range(500):
            try:
                yield Now() if n else Sleep(hours=1)
            except BaseException:  # noqa: S110 - what is tested
                pass
        return "never"

    @app.workflow
    def answers() -> Flow[str]:
        try:
            yield Sleep(hours=1)
        except Cancelled:
            pass
        return "went on"

    flowgen_worker(app)
    runs = flowgen_client.start_many([clings.call(), answers.call()])
    for run in runs:
        eventually(lambda run=run: run.refresh().status == "waiting")
        flowgen_client.cancel(run.id, reason="enough")
    for run in runs:
        with pytest.raises(RunCancelled, match="enough"):
            run.result(timeout=20)
        assert run.refresh().output is None
    assert "a handler went on for 20 commands after Cancelled was thrown in, at " in caplog.text
    assert "it swallows Cancelled, and was closed. Let it pass: use except Exception, or raise again" in caplog.text


@pytest.mark.bad_input("B40", "B41")
def test_what_differs_from_one_replay_to_the_next_is_named_at_the_first_index_that_shows_it(app: App) -> None:
    @app.workflow
    def draws() -> Flow[list[int]]:
        done = []
        for _ in range(3):
            done.append((yield from Step(ok, random.randrange(10**9))))
        return done

    @app.workflow
    def branches() -> Flow[int]:
        yield Step(ok)
        if os.environ.get("FLOWGEN_TEST_BRANCH"):
            return (yield from Step(boom_not))
        return (yield from Step(ok).opts(name="other"))

    def boom_not() -> int:
        return 1

    @app.workflow
    def records() -> Flow[str]:
        return str((yield from Uuid()))

    trace = drive(draws.call(), outcomes={ok: [1, 2, 3]})
    with pytest.warns(
        UserWarning, match=r"ok(#\d)? was recorded with other arguments than Step\(ok, \d+\) has now, at .*:\d+"
    ):
        assert replay(draws, trace) == [1, 2, 3]
    recorded = drive(records.call())
    assert replay(records, recorded) == recorded.result, "what the engine draws is the same on every replay"
    trace_of_one = drive(branches.call(), outcomes={ok: [1, 2]})
    os.environ["FLOWGEN_TEST_BRANCH"] = "1"
    try:
        with pytest.raises(Divergence) as diverged:
            replay(branches, trace_of_one)
    finally:
        del os.environ["FLOWGEN_TEST_BRANCH"]
    told = str(diverged.value)
    for part in ("other", "boom_not", "recorded", "test_generators.py:"):
        assert part in told
