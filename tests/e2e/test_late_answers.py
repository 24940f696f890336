"""Answers of the store that come when the world has changed: the lease is over, or the run has been left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from flowgen import App, Checkpoint, Context, Flow, Gather, Invoke, Retry, Sleep, Start, Step, StepContext
from flowgen.client.sync import Client
from flowgen.errors import DatabaseError, RetryableError, RunFailed
from flowgen.failpoints import evicting
from flowgen.testing.workers import Workers
from flowgen.worker.link import Link
from tests.waiting import eventually

Db = psycopg.Connection[Any]


class Post:
    """Between a worker and its server: does something once before an answer of a named link is given."""

    def __init__(self) -> None:
        self.before: dict[str, tuple[Callable[[Any], bool], Callable[[], object]]] = {}
        self.kept: list[str] = []

    async def handed(self, link: Link, statement: str, answer: Any) -> None:
        name = f"{link._name} {statement}"
        wanted, act = self.before.get(name, (None, None))
        if wanted is not None and act is not None and wanted(answer):
            del self.before[name]
            self.kept.append(name)
            await asyncio.to_thread(act)


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch) -> Post:
    made = Post()
    call = Link.call

    async def late(link: Link, op: Any) -> Any:
        answer = await call(link, op)
        await made.handed(link, op.__name__, answer)
        return answer

    monkeypatch.setattr(Link, "call", late)
    return made


def lose_the_lease(db: Db) -> None:
    """The session ends, and the worker has another one before this returns."""
    db.execute("update flowgen.worker set dead = true")
    eventually(lambda: db.execute("select count(*) from flowgen.worker where not dead").fetchone() == (1,))


def broken() -> None:
    raise DatabaseError("the server closed the connection unexpectedly", transient=True)


def test_children_that_were_adopted_by_a_session_that_is_over_are_not_begun_under_the_next(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db, post: Post, caplog: pytest.LogCaptureFixture
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
        return list((yield from Gather(*[Invoke(child, n) for n in range(5)])))

    post.before["flush flush"] = (lambda answer: bool(answer.adopted), lambda: lose_the_lease(db))
    flowgen_worker(app, lease=2, heartbeat=0.1)
    assert flowgen_client.start(parent).result(timeout=20) == list(range(5))
    assert post.kept == ["flush flush"]
    assert sorted(calls) == list(range(5))
    assert "is owned elsewhere" not in caplog.text


def test_runs_that_were_claimed_by_a_session_that_is_over_are_not_begun_under_the_next(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db, post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def noted(n: int) -> int:
        calls.append(n)
        return n

    @app.workflow
    def one(n: int) -> Flow[int]:
        return (yield from Step(noted, n))

    runs = flowgen_client.start_many([one.call(n) for n in range(5)])
    post.before["claim claim"] = (lambda answer: bool(answer.runs), lambda: lose_the_lease(db))
    flowgen_worker(app, lease=2, heartbeat=0.1)
    assert [run.result(timeout=20) for run in runs] == list(range(5))
    assert post.kept == ["claim claim"]
    assert sorted(calls) == list(range(5))
    assert "is owned elsewhere" not in caplog.text


def test_large_outcomes_of_one_commit_whose_answer_was_lost_are_all_delivered(
    app: App, flowgen_client: Client, flowgen_worker: Workers, post: Post
) -> None:
    together = threading.Barrier(5)

    def large(n: int) -> str:
        together.wait(10)
        return str(n) * 2_000_000

    @app.workflow
    def five() -> Flow[list[str]]:
        found = yield from Gather(*[Step(large, n) for n in range(5)])
        return [each[0] for each in found]

    post.before["flush flush"] = (lambda answer: True, broken)
    flowgen_worker(app, lease=60, concurrency=5)
    assert flowgen_client.start(five).result(timeout=20) == list("01234")
    assert post.kept == ["flush flush"]


def test_what_is_reported_after_a_step_has_ended_does_not_cost_the_run_its_owner(
    app: App, flowgen_client: Client, flowgen_worker: Workers, post: Post
) -> None:
    contexts: list[StepContext] = []

    @app.task
    def step(ctx: StepContext) -> int:
        contexts.append(ctx)
        return 1

    @app.workflow
    def sleeps() -> Flow[int]:
        one = yield from Step(step)
        yield Sleep(0.2)
        return one

    def report() -> None:
        contexts[0].progress(1)

    post.before["flush flush"] = (lambda answer: bool(contexts and answer.landed), report)
    flowgen_worker(app, lease=60, cache=10)
    assert flowgen_client.start(sleeps).result(timeout=10) == 1
    assert post.kept == ["flush flush"]


def test_children_that_the_database_refused_are_not_waited_for(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db, post: Post
) -> None:
    @app.task
    def one(n: int) -> int:
        return n

    @app.task
    def refused(n: int) -> int:
        return n

    @app.workflow
    def parent() -> Flow[list[int]]:
        return list((yield from Gather(*[Invoke(refused, n) for n in range(3)])))

    db.execute("alter table flowgen.run add constraint refuses check (name <> 'refused')")
    flowgen_worker(app, lease=60)
    with pytest.raises(RunFailed, match="the database refused"):
        flowgen_client.start(parent).result(timeout=10)
    post.before["claim claim"] = (lambda answer: bool(answer.runs), broken)
    assert flowgen_client.start(one, 1).result(timeout=10) == 1
    assert post.kept == ["claim claim"]


def test_a_checkpoint_that_has_to_wait_for_its_row_is_kept_whatever_is_reported_meanwhile(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_database: str, db: Db, post: Post
) -> None:
    contexts: list[StepContext] = []
    with psycopg.connect(flowgen_database) as other:

        @app.task
        def step(ctx: StepContext) -> None:
            contexts.append(ctx)
            other.execute("select 1 from flowgen.run for update")

        @app.workflow(retry=Retry(2, initial=0.01))
        def saves(ctx: Context) -> Flow[int]:
            if ctx.has_checkpoint():
                return int(ctx.checkpoint_cursor)
            yield from Step(step)
            yield Checkpoint(7)
            raise RetryableError("once more")

        def report() -> None:
            contexts[0].progress(1)
            other.rollback()

        post.before["flush flush"] = (lambda answer: bool(answer.skipped), report)
        flowgen_worker(app, lease=60)
        assert flowgen_client.start(saves).result(timeout=10) == 7
    assert post.kept == ["flush flush"]


@pytest.mark.skipif(evicting(), reason="the run needs a second claim, and the test holds the first")
def test_a_worker_that_drains_looks_again_when_runs_became_ready_since_it_looked(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db, post: Post
) -> None:
    go, begun = threading.Event(), threading.Event()
    empty: list[None] = []

    @app.task
    def child() -> int:
        return 1

    def wait() -> None:
        begun.set()
        go.wait(10)

    @app.workflow
    def parent() -> Flow[None]:
        yield from Step(wait)
        yield from Start(child)

    run = flowgen_client.start(parent)
    db.execute("update flowgen.run set recoveries = 1")  # it adopts nobody

    def nothing(answer: Any) -> bool:
        if begun.is_set() and not answer.runs:
            empty.append(None)
        return len(empty) > 3

    def end() -> None:
        go.set()
        run.result(timeout=10)

    post.before["claim claim"] = (nothing, end)
    assert flowgen_worker(app, drain=True, poll=0.02).join(10)
    assert post.kept == ["claim claim"]
    assert db.execute("select distinct status from flowgen.run").fetchall() == [(7,)]


@pytest.mark.skipif(evicting(), reason="the run needs a second claim, and the test holds the first")
@pytest.mark.parametrize("looks", [8, 9])  # one is of the whole queue, the other of its end
def test_a_worker_that_drains_ends_when_its_last_run_ends_while_it_looks(
    app: App, flowgen_client: Client, flowgen_worker: Workers, post: Post, looks: int
) -> None:
    """That look found nothing, and the janitor's looks, which are enough from then on, find nothing either."""
    go, begun = threading.Event(), threading.Event()
    empty: list[None] = []
    worker: list[Any] = []

    @app.task
    def last() -> None:
        begun.set()
        go.wait(10)

    def nothing(answer: Any) -> bool:
        if begun.is_set() and not answer.runs:
            empty.append(None)
        return len(empty) == looks

    def end() -> None:
        go.set()
        run.result(timeout=10)
        eventually(lambda: worker[0]._worker.runner.count() == 0)

    run = flowgen_client.start(last)
    post.before["claim claim"] = (nothing, end)
    worker.append(flowgen_worker(app, drain=True))
    assert worker[0].join(10)
    assert post.kept == ["claim claim"]
