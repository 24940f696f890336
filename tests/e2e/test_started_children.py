"""Start and Wait: who may wait for a child that was started, how long, and what a reference is good for elsewhere."""

from __future__ import annotations

import threading
from typing import Any

from flowgen import (
    App,
    Checkpoint,
    ChildFailed,
    ChildTimedOut,
    Context,
    ContinueAsNew,
    Flow,
    Gather,
    Invoke,
    RunQuery,
    RunRef,
    Signal,
    Start,
    Wait,
    WaitSignal,
)
from flowgen.client.sync import Client
from flowgen.core.codec import structure
from flowgen.testing.workers import Workers
from tests.waiting import eventually


def test_a_wait_that_is_over_cancels_its_child_or_leaves_it_alone(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow
    def child(n: int) -> Flow[int]:
        return (yield from WaitSignal("end", int)) + n

    @app.workflow
    def parent() -> Flow[list[Any]]:
        left, cut = yield from Gather(Start(child, 1).opts(id="left"), Start(child, 2))
        said: list[Any] = []
        for wait in (Wait(left).opts(timeout=0.1, on_timeout="abandon"), Wait(cut).opts(timeout=0.1)):
            try:
                said.append((yield from wait))
            except ChildTimedOut as error:
                said.append(str(error))
        yield Signal(left, "end", 10)
        both = yield from Gather(Wait(left), Wait(left).opts(timeout=20))
        return [*said, *both]

    flowgen_worker(app)
    timed_out = "Child run timed out: child"
    assert flowgen_client.start(parent).result(timeout=20) == [timed_out, timed_out, 11, 11]
    eventually(lambda: flowgen_client.count(RunQuery(name="child", status="cancelled")) == 1)
    assert flowgen_client.get("left").status == "completed"


def test_only_the_run_that_started_a_child_waits_for_it(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    """A reference is a value like others: to signal a run with, to keep over a Checkpoint; nobody waits for ever."""
    go = threading.Event()

    @app.task
    def work(n: int) -> int:
        assert go.wait(20)
        return n

    @app.workflow
    def elsewhere(ref: RunRef[int]) -> Flow[str]:
        try:
            return str((yield from Wait(ref)))
        except ChildFailed as error:
            return error.failure.message

    @app.workflow
    def parent(ctx: Context) -> Flow[list[Any]]:
        if not ctx.has_checkpoint():
            started = yield from Start(work, 7)
            refused = yield from Invoke(elsewhere, started)
            yield Checkpoint(refused, accumulated_results=started)
        go.set()
        ref = structure(ctx.accumulated_results, RunRef[int], what="the reference")
        return [ctx.checkpoint_cursor, (yield from Wait(ref))]

    @app.workflow
    def passes(ctx: Context, ref: RunRef[int] | None) -> Flow[str]:
        if ref is None:
            return (yield from ContinueAsNew((yield from Start(work, 8))))
        try:
            return str((yield from Wait(ref)))
        except ChildFailed as error:
            return error.failure.message

    flowgen_worker(app)
    run, other = flowgen_client.start(parent), flowgen_client.start(passes, None)
    refused, value = run.result(timeout=20)
    assert value == 7
    said = "only that is told what it comes to: let it wait, and pass on the result; or Invoke it there, with an id"
    assert refused == f"work was started by the run {run.uuid}, and {said}"
    assert other.result(timeout=20) == f"work was started by an earlier pass of this run, and {said}"
