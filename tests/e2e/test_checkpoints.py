"""Checkpoint on a real worker: progress is saved and a run goes on from it."""

from __future__ import annotations

from typing import Any

import pytest

from flowgen import App, Checkpoint, Context, Flow, Retry, RunFailed, Sleep, Step, call
from flowgen.client.sync import Client
from flowgen.failpoints import evicting
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program
from tests.waiting import eventually


def test_a_retried_run_goes_on_from_its_cursor_and_repeats_no_prologue(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    calls: list[str] = []
    broken = [True]

    def count_pages() -> int:
        calls.append("count")
        return 5

    def load_page(page: int) -> int:
        calls.append(f"page {page}")
        if page == 3 and broken[0]:
            raise ValueError("page 3")
        return page

    @app.workflow
    def load(ctx: Context) -> Flow[list[Any]]:
        pages = yield from Step(count_pages)
        total = (ctx.accumulated_results or {"n": 0})["n"]
        for page in range(ctx.checkpoint_cursor or 0, pages):
            total += yield from Step(load_page, page).opts(retry=Retry(1))
            yield Checkpoint(page + 1, page + 1, {"n": total})
        return [total, ctx.checkpoint_items_processed, ctx.has_checkpoint()]

    flowgen_worker(app)
    run = flowgen_client.start(load)
    with pytest.raises(RunFailed, match="page 3"):
        run.result(timeout=15)
    broken[0] = False
    flowgen_client.retry(run.id)
    assert run.result(timeout=15) == [10, 5, True]
    assert calls == ["count", "page 0", "page 1", "page 2", "page 3", "page 3", "page 4"]


def test_a_loop_with_sleeps_resumes_at_each_cursor(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    def item(n: int) -> int:
        return n

    @app.workflow
    def loop(ctx: Context) -> Flow[list[int]]:
        items = list(ctx.accumulated_results or [])
        for n in range(ctx.checkpoint_cursor or 0, 10):
            items.append((yield from Step(item, n)))
            yield Sleep(0.001)
            yield Checkpoint(n + 1, n + 1, items)
        return items

    flowgen_worker(app, cache=0)
    run = flowgen_client.start(loop)
    assert run.result(timeout=20) == list(range(10))


def test_a_bounded_history_is_what_a_resume_reads(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    def item(n: int) -> int:
        return n

    @app.workflow
    def loop(ctx: Context) -> Flow[dict[str, Any]]:
        for n in range(ctx.checkpoint_cursor or 0, 300):
            yield Step(item, n)
            yield Checkpoint(n + 1)
        yield Sleep(0.01)
        yield Step(item, 300)
        return ctx.dependency_results

    flowgen_worker(app, cache=0)
    run = flowgen_client.start(loop)
    assert run.result(timeout=30) == {"sleep": None, "item": 300}, "and nothing of the 300 items before"


def test_from_scratch_sets_the_checkpoint_aside(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    calls: list[int] = []
    begun: list[bool] = []
    broken = [True]

    def item(n: int) -> int:
        calls.append(n)
        if n == 2 and broken[0]:
            raise ValueError("two")
        return n

    @app.workflow
    def loop(ctx: Context) -> Flow[bool]:
        begun.append(ctx.has_checkpoint())
        for n in range(ctx.checkpoint_cursor or 0, 3):
            yield Step(item, n).opts(retry=Retry(1))
            yield Checkpoint(n + 1)
        return True

    flowgen_worker(app)
    run = flowgen_client.start(loop)
    with pytest.raises(RunFailed):
        run.result(timeout=15)
    broken[0] = False
    begun.clear()
    flowgen_client.retry(run.id, from_scratch=True)
    assert run.result(timeout=15)
    assert False in begun
    assert calls == [0, 1, 2, 0, 1, 2]


def test_a_checkpoint_that_nobody_reads_is_refused_with_the_idiom(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow
    def careless(ctx: Context) -> Flow[None]:
        yield Checkpoint(1)

    flowgen_worker(app)
    run = flowgen_client.start(careless)
    with pytest.raises(RunFailed, match=r"(?s)DefinitionError: .*ctx\.checkpoint_cursor or 0"):
        run.result(timeout=15)


def test_a_run_level_retry_keeps_the_checkpoint(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    calls: list[int] = []

    def item(n: int) -> int:
        calls.append(n)
        if n == 2 and calls.count(2) == 1:
            raise ValueError("two")
        return n

    @app.workflow(retry=Retry(2, initial=0.05, jitter=0))
    def loop(ctx: Context) -> Flow[list[Any]]:
        for n in range(ctx.checkpoint_cursor or 0, 4):
            yield Step(item, n).opts(retry=Retry(1))
            yield Checkpoint(n + 1)
        return [ctx.attempt, ctx.is_retry(), ctx.is_last_retry()]

    flowgen_worker(app)
    run = flowgen_client.start(loop)
    assert run.result(timeout=15) == [2, True, True]
    assert calls == [0, 1, 2, 2, 3]
    assert eventually(lambda: run.refresh().attempt) == 2


def test_a_tight_loop_of_checkpoints_is_paused_and_cancelled_at_one_and_goes_on_from_its_cursor(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    """It never waits: only a checkpoint lets a request take hold."""
    seen: list[int] = []

    @app.workflow
    def endless(ctx: Context) -> Flow[None]:
        n = ctx.checkpoint_cursor or 0
        seen.append(n)
        while True:
            n += 1
            yield Checkpoint(n)

    flowgen_worker(app)
    run = flowgen_client.start(endless)
    eventually(lambda: len(flowgen_client.history(run.id)) == 1, timeout=20)
    flowgen_client.pause(run.id)
    eventually(lambda: run.refresh().status == "paused", timeout=20)
    (stands,) = flowgen_client.history(run.id)
    cursor = stands.value[0]
    assert cursor > 0
    flowgen_client.resume(run.id)
    eventually(lambda: flowgen_client.history(run.id)[0].value[0] > cursor, timeout=20)
    assert cursor in seen
    assert seen == ([0, cursor] if not evicting() else sorted(set(seen)))
    flowgen_client.cancel(run.id)
    eventually(lambda: run.refresh().status == "cancelled", timeout=20)


def test_a_run_whose_worker_is_killed_goes_on_from_a_cursor_of_any_kind(
    program: Program, flowgen_client: Client
) -> None:
    program.write("""
def stay(word):
    note(word)
    gate("go") if os.environ["WHO"] == "first" else None

@workflow
def load(ctx: Context, cursor: object) -> Flow[list]:
    before = [ctx.has_checkpoint(), ctx.checkpoint_cursor, ctx.checkpoint_items_processed, ctx.accumulated_results]
    if not before[0]:
        yield Checkpoint(cursor, 7, {"n": cursor})
    yield Step(stay, repr(cursor))
    return before
""")
    cursors: list[Any] = [7, "page-7", {"page": 7, "of": ["a", None]}, None]
    first = program.start(WHO="first")
    runs = [flowgen_client.start(call("load", cursor=cursor)) for cursor in cursors]
    for cursor in cursors:
        program.noted(repr(cursor))
    first.kill()
    program.start(WHO="second")
    assert [run.result(timeout=30) for run in runs] == [[True, cursor, 7, {"n": cursor}] for cursor in cursors]
