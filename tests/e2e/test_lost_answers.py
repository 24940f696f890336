"""What came of a claim or a commit whose answer never came, and of runs that have to be claimed alone."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from flowgen import App, Checkpoint, Context, Flow, Gather, Invoke, Retry, Settings, Sleep, Step, Transaction
from flowgen.client.sync import Client
from flowgen.errors import DatabaseError
from flowgen.postgres import embedded
from flowgen.testing.workers import Workers
from flowgen.worker import running
from flowgen.worker.link import Link
from flowgen.worker.transactor import Transactor, _Broken
from tests.waiting import eventually


class Wire:
    """Between a worker and its server: swallows the answer of what a named link says next."""

    def __init__(self) -> None:
        self.swallow: set[str] = set()
        self.swallowed: list[str] = []
        self.alternately: set[str] = set()
        """What is swallowed every other time."""
        self.heard: set[str] = set()

    def lost(self, link: Link, statement: str, rows: Any) -> bool:
        name = f"{link._name} {statement}"
        if name in self.alternately:
            self.heard ^= {name}
            self.swallow |= {name} & self.heard
        if name not in self.swallow or not rows:
            return False
        self.swallow.discard(name)
        self.swallowed.append(name)
        return True


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    made = Wire()
    call = Link.call

    async def cut(link: Link, op: Any) -> Any:
        answer = await call(link, op)
        if made.lost(link, op.__name__, getattr(answer, "runs", True)):
            raise DatabaseError("the server closed the connection unexpectedly", transient=True)
        return answer

    monkeypatch.setattr(Link, "call", cut)
    return made


def add(a: int, b: int) -> int:
    return a + b


def test_a_run_whose_claim_was_not_answered_goes_on(
    app: App, flowgen_client: Client, flowgen_worker: Workers, wire: Wire
) -> None:
    @app.workflow
    def one() -> Flow[int]:
        return (yield from Step(add, 1, 2))

    wire.swallow.add("claim claim")
    flowgen_worker(app, lease=60)
    run = flowgen_client.start(one)
    assert run.result(timeout=10) == 3
    assert wire.swallowed == ["claim claim"]


def test_a_worker_starts_although_nobody_answers_what_it_declares(
    app: App, flowgen_client: Client, flowgen_worker: Workers, wire: Wire
) -> None:
    @app.task
    def one() -> int:
        return 1

    wire.swallow |= {"control declare", "control put_back"}
    flowgen_worker(app, lease=60)
    assert flowgen_client.start(one).result(timeout=10) == 1
    assert wire.swallowed == ["control declare", "control put_back"]


def test_a_worker_that_stops_leaves_although_its_connection_broke(
    app: App, flowgen_client: Client, flowgen_worker: Workers, wire: Wire, db: Any
) -> None:
    wire.swallow |= {"control release", "control leave", "control reap"}
    flowgen_worker(app, lease=60).stop()
    assert wire.swallowed == ["control release", "control leave", "control reap"]
    assert db.execute("select dead, quiet, released from flowgen.worker").fetchall() == [(True, True, True)]


def test_a_flush_that_was_not_answered_is_read_back(
    app: App, flowgen_client: Client, flowgen_worker: Workers, wire: Wire
) -> None:
    calls: list[int] = []

    def noted(n: int) -> int:
        calls.append(n)
        return n

    @app.workflow
    def two() -> Flow[list[int]]:
        one = yield from Step(noted, 1)
        wire.swallow.add("flush flush")
        yield Sleep(0.2)
        wire.swallow.add("flush flush")
        return [one, (yield from Step(noted, 2))]

    flowgen_worker(app, lease=60, cache=0)
    assert flowgen_client.start(two).result(timeout=10) == [1, 2]
    assert calls == [1, 2]
    assert len(wire.swallowed) >= 2


@pytest.mark.parametrize("durability", ["step", "checkpoint"])
def test_a_checkpoint_whose_commit_was_not_answered_lets_its_loop_go_on(
    app: App, flowgen_client: Client, flowgen_worker: Workers, wire: Wire, durability: Any
) -> None:
    """What it closes is gone from the store when its commit is read back."""
    calls: list[int] = []

    @app.workflow(durability=durability)
    def loop(ctx: Context) -> Flow[int]:
        for n in range(ctx.checkpoint_cursor or 0, 3):
            yield Step(calls.append, n)
            yield Step(calls.append, 10 + n)
            wire.swallow.add("flush flush")
            yield Checkpoint(n + 1)
        return len(calls)

    flowgen_worker(app, lease=60)
    assert flowgen_client.start(loop).result(timeout=20) == 6
    assert calls == [0, 10, 1, 11, 2, 12]
    assert len(wire.swallowed) >= 3


def test_a_commit_of_many_runs_is_read_back_although_every_other_answer_is_lost(
    app: App, flowgen_client: Client, flowgen_worker: Workers, wire: Wire
) -> None:
    """Each run that is told of is a new beginning: the pauses between two tries do not add up."""
    begun = threading.Barrier(50)

    def together(n: int) -> int:
        begun.wait(30)
        return n

    @app.workflow
    def one(n: int) -> Flow[int]:
        return (yield from Step(together, n))

    wire.alternately |= {"flush flush", "flush page"}
    flowgen_worker(app, lease=60, concurrency=50)
    runs = flowgen_client.start_many([one.call(n) for n in range(50)])
    assert [run.result(timeout=20) for run in runs] == list(range(50))
    assert wire.swallowed.count("flush page") >= 1


def test_children_whose_adoption_was_not_answered_go_on(
    app: App, flowgen_client: Client, flowgen_worker: Workers, wire: Wire
) -> None:
    calls: list[int] = []

    def noted(n: int) -> int:
        calls.append(n)
        return n

    @app.workflow
    def child(n: int) -> Flow[int]:
        return (yield from Step(noted, n))

    @app.workflow
    def parent() -> Flow[list[int]]:
        wire.swallow.add("flush flush")
        return list((yield from Gather(*[Invoke(child, n) for n in range(20)])))

    flowgen_worker(app, lease=60)
    assert flowgen_client.start(parent).result(timeout=20) == list(range(20))
    assert sorted(calls) == list(range(20))
    assert wire.swallowed


def test_a_program_waits_for_a_server_that_restarts(tmp_path: Path) -> None:
    folder = tmp_path / "server"
    url = embedded.ensure(folder, idle=0)
    try:
        assert running.ready_url(url, Settings(), migrate=False) == url
        embedded.stop(folder, "fast")
        found: list[str] = []
        waiting = threading.Thread(target=lambda: found.append(running.ready_url(url, Settings(), migrate=False)))
        waiting.start()
        embedded.ensure(folder, idle=0)
        eventually(lambda: found == [url], timeout=20)
        waiting.join()
    finally:
        embedded.stop(folder, "fast")
        embedded.reset(folder)


def test_a_suspect_gets_its_turn_on_a_worker_that_is_never_idle(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Any
) -> None:
    over = threading.Event()

    def short(n: int) -> int:
        over.wait(0.3)
        return n

    @app.workflow
    def busy(n: int) -> Flow[int]:
        return (yield from Step(short, n))

    suspect = flowgen_client.start(busy, 0)
    db.execute("update flowgen.run set recoveries = 2 where run_id = %s", (suspect.uuid,))

    def load() -> None:
        n = 0
        while not over.wait(0.05):
            flowgen_client.start(busy, n := n + 1)

    loading = threading.Thread(target=load)
    loading.start()
    try:
        eventually(lambda: flowgen_client.count() > 10)
        flowgen_worker(app)
        assert suspect.result(timeout=15) == 0
    finally:
        over.set()
        loading.join()


def test_a_transaction_whose_commit_fails_after_its_timeout_has_timed_out(
    app: App, flowgen_client: Client, flowgen_worker: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = Transactor._commit
    broken: list[str] = []

    async def fails_late(self: Transactor, *args: Any) -> Any:
        if broken:
            return await commit(self, *args)
        broken.append("once")
        await asyncio.sleep(0.6)
        raise _Broken(DatabaseError("the connection is gone", transient=True))

    monkeypatch.setattr(Transactor, "_commit", fails_late)

    @app.workflow
    def late() -> Flow[list[int]]:
        pay = Transaction(lambda conn: 1).opts(name="pay", timeout=0.3, retry=Retry(2, initial=0.01))
        beside = Step(add, 1, 1)
        return list((yield from Gather(pay, beside)))

    flowgen_worker(app, lease=60)
    run = flowgen_client.start(late)
    assert run.result(timeout=10) == [1, 2]
    assert broken
    assert [item.kind for item in flowgen_client.history(run.id) if item.name == "pay"] == ["attempt", "outcome"]
