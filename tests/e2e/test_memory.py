"""What a run leaves behind in the process of its worker: nothing."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

from flowgen import App, Context, Flow, Gather, Invoke, Sleep, Step, StepContext
from flowgen.client.sync import Client
from flowgen.core.branches import Leaf
from flowgen.core.interpreter import Execution
from flowgen.failpoints import evicting
from flowgen.testing.workers import Workers
from flowgen.worker.executor import RunningCall
from tests.waiting import eventually


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Nothing is freed but by its last reference."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def left(*kinds: type[Any]) -> int:
    return sum(isinstance(each, kinds) for each in gc.get_objects())


@pytest.mark.usefixtures("no_collector")
@pytest.mark.skipif(evicting(), reason="a Gather that is closed half way is left to the garbage collector")
@pytest.mark.needs_answers("the error of a lost one holds what was asked until it is collected")
def test_a_run_that_ended_leaves_nothing_for_the_garbage_collector(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    def plain(n: int) -> int:
        return n

    async def awaited(n: int) -> int:
        return n

    def informed(ctx: StepContext, n: int) -> int:
        return n + ctx.attempt

    @app.workflow
    def child(n: int) -> Flow[int]:
        yield Sleep(0.001)
        return n

    @app.workflow
    def parent(ctx: Context, n: int) -> Flow[int]:
        both = yield from Gather(Step(plain, n), Step(awaited, n), Invoke(child, n))
        return sum(both) + (yield from Step(informed, ctx.attempt))

    before = left(Execution, RunningCall)
    flowgen_worker(app)
    runs = flowgen_client.start_many([parent.call(n) for n in range(20)])
    assert [run.result(timeout=20) for run in runs] == [3 * n + 2 for n in range(20)]
    # The last batch is known to whoever told it until the next one comes.
    runs = flowgen_client.start_many([child.call(0)])
    assert runs[0].result(timeout=20) == 0
    eventually(lambda: left(Execution, RunningCall) <= before + 2)


@pytest.mark.usefixtures("no_collector")
@pytest.mark.needs_answers("the error of a lost one holds what was asked until it is collected")
def test_a_run_that_waits_leaves_nothing_but_its_rows_when_its_generator_is_not_kept(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Any
) -> None:
    @app.workflow
    def waits(n: int) -> Flow[int]:
        yield from Gather(Sleep(3600), Sleep(7200))
        return n

    before = left(Execution, Leaf)
    flowgen_worker(app, cache=5)
    flowgen_client.start_many([waits.call(n) for n in range(50)])
    asleep = "select count(*) from flowgen.run where status = 4"
    eventually(lambda: db.execute(asleep).fetchone() == (50,))
    eventually(lambda: left(Execution) <= before + 5)
    eventually(lambda: left(Execution, Leaf) <= before + 5 * 3)
