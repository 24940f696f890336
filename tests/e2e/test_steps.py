"""Steps on a real worker: what they return, how they are retried, timed out and told about themselves."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import flowgen
from flowgen import (
    App,
    Context,
    Flow,
    PermanentError,
    Retry,
    RetryableError,
    RunFailed,
    Step,
    StepContext,
    StepFailed,
    StepTimedOut,
)
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.waiting import eventually

QUICK = Retry(3, initial=0.01, jitter=0)


def test_sync_and_async_steps_give_their_results(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    def add(a: int, b: int) -> int:
        return a + b

    async def multiply(a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a * b

    @app.workflow
    def mixed(n: int) -> Flow[int]:
        sum_ = yield from Step(add, n, b=1)
        return (yield from Step(multiply, sum_, 10))

    @app.workflow
    async def awaited(n: int) -> int:
        return await Step(multiply, await Step(add, n, 1), 10)

    flowgen_worker(app)
    assert flowgen_client.start(mixed, 2).result(timeout=10) == 30
    assert flowgen_client.start(awaited, 2).result(timeout=10) == 30


def test_a_plain_task_is_a_run_of_one_step(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    tries: list[int] = []

    @app.task(retry=QUICK)
    def flaky(n: int) -> int:
        tries.append(flowgen.current().attempt)
        if len(tries) < 3:
            raise ValueError("boom")
        return n

    flowgen_worker(app)
    run = flowgen_client.start(flaky, 7)
    assert run.result(timeout=10) == 7
    assert tries == [1, 2, 3]
    kinds = [item.kind for item in flowgen_client.history(run.id)]
    assert kinds == ["attempt", "attempt", "outcome"]


def test_an_exhausted_step_is_thrown_at_the_yield_and_can_be_caught(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    def broken() -> None:
        raise LookupError("nothing here")

    @app.workflow
    def catches() -> Flow[list[Any]]:
        try:
            yield from Step(broken).opts(retry=QUICK)
        except StepFailed as failed:
            return [failed.failure.type, failed.failure.message, failed.attempts, "broken" in failed.failure.traceback]
        return []

    flowgen_worker(app)
    assert flowgen_client.start(catches).result(timeout=10) == ["LookupError", "nothing here", 3, True]


def test_an_uncaught_step_fails_the_run_with_the_original_error(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.task(retry=Retry(1))
    def broken() -> None:
        raise LookupError("nothing here")

    @app.workflow
    def lets_go() -> Flow[None]:
        yield Step(broken)

    flowgen_worker(app)
    run = flowgen_client.start(lets_go)
    with pytest.raises(RunFailed, match=r"LookupError: nothing here"):
        run.result(timeout=10)
    error = run.refresh().error
    assert error is not None
    assert error.type == "StepFailed"


def test_errors_are_classified_by_one_rule(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    tries: dict[str, int] = {}

    def raising(which: str) -> int:
        tries[which] = tries.get(which, 0) + 1
        if which == "permanent":
            raise PermanentError("no")
        if which == "again" and tries[which] < 3:
            raise RetryableError("soon", retry_after=0.01)
        if which == "listed":
            raise KeyError("k")
        if which == "other" and tries[which] < 3:
            raise ValueError("v")
        return tries[which]

    @app.workflow
    def classified(which: str) -> Flow[int]:
        listed = (KeyError, RetryableError)
        return (yield from Step(raising, which).opts(retry=Retry(5, initial=0.01, give_up_on=listed)))

    flowgen_worker(app)
    for which in ("permanent", "listed"):
        with pytest.raises(RunFailed):
            flowgen_client.start(classified, which).result(timeout=10)
    for which in ("again", "other"):
        assert flowgen_client.start(classified, which).result(timeout=10) == 3
    assert tries == {"permanent": 1, "listed": 1, "again": 3, "other": 3}


def test_a_retry_after_is_honoured(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    times: list[float] = []

    def limited() -> int:
        times.append(time.monotonic())
        if len(times) == 1:
            raise RetryableError("429", retry_after="400ms")
        return len(times)

    @app.workflow
    def polite() -> Flow[int]:
        return (yield from Step(limited).opts(retry=Retry(2, initial=0.001)))

    flowgen_worker(app)
    assert flowgen_client.start(polite).result(timeout=10) == 2
    assert times[1] - times[0] >= 0.4


def test_an_error_with_a_wait_that_cannot_be_read_fails_its_step_and_never_hangs(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    class Limited(RetryableError):
        def __init__(self, wait: Any = None) -> None:
            if wait is not None:
                self.retry_after = wait

    def limited(wait: Any) -> int:
        if (attempt := flowgen.current().attempt) < 3:
            raise Limited(wait)
        return attempt

    @app.workflow
    def polite(wait: Any) -> Flow[Any]:
        return (yield from Step(limited, wait).opts(retry=Retry(3, initial=0.001)))

    flowgen_worker(app)
    assert flowgen_client.start(polite, None).result(timeout=10) == 3
    with pytest.raises(
        RunFailed, match="after 1 attempt: DefinitionError: retry_after of Limited is 'soon', which is "
    ):
        flowgen_client.start(polite, "soon").result(timeout=10)


def test_a_timeout_cancels_an_async_step(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    cancelled = threading.Event()

    async def endless() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    @app.workflow
    def waits() -> Flow[str]:
        try:
            yield Step(endless).opts(timeout=0.1, retry=Retry(1))
        except StepTimedOut as error:
            return str(error)
        return ""

    flowgen_worker(app)
    assert "timeout of 0.1 s" in flowgen_client.start(waits).result(timeout=10)
    assert cancelled.wait(5)


@pytest.mark.bad_input("B54")
@pytest.mark.fault("F22")
def test_a_timeout_signals_a_sync_step_and_refuses_its_late_result(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    late = threading.Event()

    @app.task
    def stubborn(ctx: StepContext) -> str:
        if ctx.attempt == 1:
            assert ctx.signal.wait(10)
            late.set()
            return "too late"
        return f"attempt {ctx.attempt}"

    @app.workflow
    def waits() -> Flow[str]:
        return (yield from Step(stubborn).opts(timeout=0.2, retry=QUICK))

    flowgen_worker(app)
    run = flowgen_client.start(waits)
    assert run.result(timeout=10) == "attempt 2"
    assert late.wait(5)
    assert [item.kind for item in flowgen_client.history(run.id)] == ["attempt", "outcome"]


@pytest.mark.bad_input("B54")
@pytest.mark.fault("F22")
def test_stuck_sync_steps_do_not_take_the_threads_of_others(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    release = threading.Event()

    def stuck() -> None:
        release.wait(30)

    def fine() -> str:
        return "fine"

    @app.workflow
    def held() -> Flow[None]:
        yield Step(stuck).opts(timeout=0.2, retry=Retry(1))

    @app.workflow
    def free() -> Flow[str]:
        return (yield from Step(fine))

    flowgen_worker(app, concurrency=2)
    stuck_runs = flowgen_client.start_many([held.call() for _ in range(6)])
    for run in stuck_runs:
        with pytest.raises(RunFailed, match="timeout"):
            run.result(timeout=15)
    assert flowgen_client.start(free).result(timeout=10) == "fine"
    release.set()
    assert flowgen_client.start(free).result(timeout=10) == "fine"


def test_the_context_of_a_step_knows_its_run(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    seen: dict[str, Any] = {}

    @contextmanager
    def services() -> Iterator[dict[str, str]]:
        yield {"db": "mine"}

    app.services = services

    @app.task(config={"region": "eu", "size": 1})
    def look(ctx: StepContext[dict[str, str]], extra: int) -> int:
        assert flowgen.current() is ctx
        seen.update(
            run_id=ctx.run_id,
            uuid=ctx.task_uuid,
            attempt=ctx.attempt,
            order=ctx.get_input("order_id"),
            other=ctx.get_input_or("other", "none"),
            region=ctx.get_config("region"),
            size=ctx.get_config("size"),
            first=ctx.get_dependency_result("first", int),
            services=ctx.services,
            retries=(ctx.retry_count, ctx.max_retries, ctx.is_retry(), ctx.is_last_retry()),
            aborted=ctx.signal.aborted,
        )
        ctx.progress(1, 2)
        return extra

    def first() -> int:
        return 41

    @app.workflow
    def order(ctx: Context[dict[str, str]], order_id: str) -> Flow[list[Any]]:
        one = yield from Step(first)
        extra = yield from Step(look, one + 1).opts(config={"size": 2})
        return [extra, ctx.run_id, ctx.correlation_id, ctx.trigger.kind, ctx.services["db"], ctx.attempt]

    flowgen_worker(app)
    run = flowgen_client.start(order.call("o-1").opts(id="order o-1", correlation_id="c-1"))
    assert run.result(timeout=10) == [42, "order o-1", "c-1", "call", "mine", 1]
    assert seen == {
        "run_id": "order o-1",
        "uuid": run.uuid,
        "attempt": 1,
        "order": "o-1",
        "other": "none",
        "region": "eu",
        "size": 2,
        "first": 41,
        "services": {"db": "mine"},
        "retries": (0, 2, False, False),
        "aborted": False,
    }


def test_progress_is_seen_while_the_step_goes_on(app: App, flowgen_client: Client, flowgen_worker: Workers) -> None:
    go_on = threading.Event()

    @app.task
    def long(ctx: StepContext) -> str:
        ctx.progress(3, 10)
        go_on.wait(20)
        return "done"

    flowgen_worker(app)
    run = flowgen_client.start(long)
    progress = eventually(lambda: run.refresh().progress)
    assert (progress["done"], progress["total"]) == (3, 10)
    go_on.set()
    assert run.result(timeout=10) == "done"


def test_a_sync_step_that_blocks_beyond_the_lease_runs_once(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    calls: list[int] = []

    def blocks() -> str:
        calls.append(1)
        threading.Event().wait(2.5)
        return "kept"

    @app.workflow
    def slow() -> Flow[str]:
        return (yield from Step(blocks))

    flowgen_worker(app, lease=0.8)
    run = flowgen_client.start(slow)
    assert run.result(timeout=15) == "kept"
    assert calls == [1]
    assert run.refresh().recoveries == 0


def test_an_async_step_that_blocks_the_loop_beyond_the_lease_runs_once(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    calls: list[int] = []

    async def blocks() -> str:
        calls.append(1)
        threading.Event().wait(2.5)
        return "kept"

    @app.workflow
    def slow() -> Flow[str]:
        return (yield from Step(blocks))

    flowgen_worker(app, lease=0.8)
    flowgen_worker(app, lease=0.8)
    run = flowgen_client.start(slow)
    assert run.result(timeout=15) == "kept"
    assert calls == [1]
