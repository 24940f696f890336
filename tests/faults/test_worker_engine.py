"""What goes wrong in the engine's own hands with one run is that run's alone."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import App, Flow, RunFailed, Step
from flowgen.client.sync import Client
from flowgen.postgres import arrays, entries
from flowgen.testing.workers import Workers
from flowgen.worker.executor import Executor, RunningCall
from tests.waiting import eventually

Db = psycopg.Connection[Any]


def two(app: App) -> tuple[flowgen.Workflow[..., Any, Any], flowgen.Workflow[..., Any, Any]]:
    """Neighbours, and one that says what no driver sends."""
    together = threading.Barrier(6)

    def fine(n: int) -> int:
        together.wait(20)
        return n

    def bad() -> str:
        together.wait(20)
        return "the bad one"

    @app.workflow
    def good(n: int) -> Flow[int]:
        return (yield from Step(fine, n))

    @app.workflow
    def wrong() -> Flow[str]:
        return (yield from Step(bad))

    return good, wrong


@pytest.mark.parametrize("error", [ValueError("no such thing"), psycopg.DataError("cannot be adapted"), MemoryError()])
def test_a_value_that_cannot_be_sent_fails_its_own_run(
    app: App, flowgen_client: Client, flowgen_worker: Workers, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    good, wrong = two(app)
    texts = arrays.texts

    def choosy(values: Any) -> Any:
        if '"the bad one"' in values:
            raise error
        return texts(values)

    monkeypatch.setattr(entries.arrays, "texts", choosy)
    flowgen_worker(app, lease=60, concurrency=6)
    runs = flowgen_client.start_many([good.call(n) for n in range(5)])
    bad = flowgen_client.start(wrong)
    assert [run.result(timeout=20) for run in runs] == [*range(5)]
    with pytest.raises(RunFailed, match="the database refused what"):
        bad.result(timeout=20)


def test_an_answer_of_a_commit_that_cannot_be_read_is_asked_for_again(
    app: App, flowgen_client: Client, flowgen_worker: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, _ = two(app)
    calls: list[None] = []
    utc = entries.utc

    def broken_once(when: Any) -> Any:
        calls.append(None)
        if len(calls) == 1:
            raise OverflowError("date value out of range")
        return utc(when)

    flowgen_worker(app, lease=60, concurrency=6)
    monkeypatch.setattr(entries, "utc", broken_once)
    runs = flowgen_client.start_many([good.call(n) for n in range(6)])
    assert [run.result(timeout=20) for run in runs] == [*range(6)]
    assert {len(flowgen_client.history(run.id)) for run in runs} == {1}


@pytest.mark.parametrize("what", ["a row", "a history", "an inbox"])
def test_a_run_that_cannot_be_read_at_its_claim_is_parked_alone(
    app: App, flowgen_client: Client, flowgen_worker: Workers, monkeypatch: pytest.MonkeyPatch, db: Db, what: str
) -> None:
    @app.workflow
    def good(n: int) -> Flow[int]:
        return n
        yield

    @app.workflow
    def wrong() -> Flow[None]:
        yield from ()

    runs = flowgen_client.start_many([good.call(n) for n in range(5)])
    bad = flowgen_client.start(wrong)
    more = flowgen_client.start(good, 5)
    if what == "a history":
        db.execute(
            "insert into flowgen.entry (run_id, recorded_at, index, kind, key, due_at) "
            "values (%s, now(), 1, 4, 'x', '12000-01-01')", (bad.uuid,)
        )  # fmt: skip
        db.execute("update flowgen.run set claim = 1 where run_id = %s", (bad.uuid,))
    elif what == "an inbox":
        db.execute("select flowgen.clock()")
        db.execute(
            "insert into flowgen.inbox (run_id, created_at, kind, key, payload) values (%s, '12000-01-01', 1, 'x', '')",
            (bad.uuid,),
        )
        db.execute("update flowgen.run set mail = 1 where run_id = %s", (bad.uuid,))
    else:
        db.execute("update flowgen.run set deadline = '12000-01-01' where run_id = %s", (bad.uuid,))
    flowgen_worker(app, lease=60)
    assert [run.result(timeout=20) for run in [*runs, more]] == [*range(6)]
    eventually(
        lambda: db.execute(
            "select status, error::json ->> 'reason' from flowgen.run where name = 'wrong'"
        ).fetchone() == (6, "undecodable")
    )  # fmt: skip
    assert db.execute("select count(*) from flowgen.worker").fetchone() == (1,)


class Watched(RunningCall):
    """A call that is aborted by the loop at the very moment at which its thread looks whether it was."""

    def __init__(self, *args: Any, loop_does: Any) -> None:
        self.loop_does: Any = None
        super().__init__(*args)
        self.loop_does = loop_does

    @property
    def over(self) -> bool:
        seen = self._over
        act, self.loop_does = self.loop_does, None
        if act is not None and threading.current_thread().name.startswith("flowgen-step"):
            act(self)
        elif act is not None:
            self.loop_does = act
        return seen

    @over.setter
    def over(self, value: bool) -> None:
        self._over = value


def test_a_call_that_is_aborted_as_its_thread_picks_it_is_replaced_when_it_is_stuck() -> None:
    import asyncio

    from flowgen.core.commands import Step as Command
    from flowgen.core.decision import FunctionCall

    go = threading.Event()
    ended: list[Any] = []

    async def play() -> None:
        loop = asyncio.get_running_loop()
        executor = Executor(loop, threads=1, tasks=1, interrupted=lambda: None)
        second: asyncio.Future[Any] = loop.create_future()

        def abort(running: RunningCall) -> None:
            asyncio.run_coroutine_threadsafe(aborted(running), loop).result(10)

        async def aborted(running: RunningCall) -> None:
            executor.abort(running, "timeout")

        def call(fn: Any) -> FunctionCall:
            return FunctionCall(key=fn.__name__, command=Command(fn), attempt=1)

        def stuck() -> None:
            go.wait(60)

        def quick() -> int:
            return 7

        first = Watched(call(stuck), None, lambda *_: ended.append("stuck"), lambda *_: None, loop_does=abort)
        executor.submit(first)
        executor.submit(RunningCall(call(quick), None, lambda _, got: second.set_result(got), lambda *_: None))  # type: ignore[arg-type]
        async with asyncio.timeout(20):
            await second
        assert executor.pending == 1
        go.set()
        async with asyncio.timeout(20):
            while executor.pending:
                await asyncio.sleep(0.01)
        executor.close()
        assert ended == []

    try:
        asyncio.run(play())
    finally:
        go.set()
