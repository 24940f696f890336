"""Events and signals of a run that goes on as new: none is missed between two passes, and none is given twice."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

from flowgen import (
    App,
    Checkpoint,
    Context,
    ContinueAsNew,
    Flow,
    PermanentError,
    Race,
    RunFailed,
    Step,
    WaitEvent,
    call,
)
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program
from tests.waiting import eventually

Db = psycopg.Connection[Any]


def listening(db: Db) -> bool:
    return db.execute("SELECT count(*) FROM flowgen.event_wait WHERE NOT fresh").fetchone() == (1,)


def test_what_is_emitted_between_two_passes_is_given_to_the_next(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    """Each event is emitted while the run works on the one before, so that nobody waits for it."""

    def work(n: int, last: int) -> None:
        if n < last:
            flowgen_client.emit("n", {"kind": "x", "n": n + 1})
            flowgen_client.emit("n", {"kind": "y", "n": -n})

    @app.workflow
    def listens(seen: list[int], last: int) -> Flow[list[int]]:
        event = yield from WaitEvent("n", where={"kind": "x"})
        yield from Step(work, event["n"], last)
        seen = [*seen, event["n"]]
        if event["n"] < last:
            yield from ContinueAsNew(seen, last)
        return seen

    flowgen_worker(app)
    run = flowgen_client.start(listens, [], 30)
    eventually(lambda: listening(db))
    flowgen_client.emit("n", {"kind": "x", "n": 0})
    assert run.result(timeout=30) == list(range(31))
    assert db.execute("SELECT count(*) FROM flowgen.event_wait").fetchone() == (0,)


@pytest.mark.parametrize("cache", [0, 100])
def test_events_of_every_moment_are_given_once_and_in_order(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_database: str, cache: int
) -> None:
    """Before the first worker, in bursts, and one after the other while two workers hand the run to and fro."""

    @app.workflow
    def listens(ctx: Context, seen: list[int], last: int) -> Flow[list[int]]:
        seen = ctx.accumulated_results or seen
        while True:
            won = yield from Race(n=WaitEvent("n"), never=WaitEvent("never"))
            seen = [*seen, won.value]
            if len(seen) == last:
                return seen
            if len(seen) % 2 == 0:
                return (yield from ContinueAsNew(seen, last))
            if len(seen) % 3:
                yield Checkpoint(len(seen), None, seen)

    last = 60
    run = flowgen_client.start(listens, [], last)
    for n in range(10):
        flowgen_client.emit("n", n)
    flowgen_worker(app, cache=cache)
    flowgen_worker(app, cache=cache)
    with psycopg.connect(flowgen_database) as conn:
        for n in range(10, 20):
            flowgen_client.emit("n", n, conn=conn)
    for n in range(20, last):
        flowgen_client.emit("n", n)
    assert run.result(timeout=60) == list(range(last))


def test_a_pass_that_is_begun_from_scratch_is_not_given_the_events_of_the_passes_before(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    broken = threading.Event()
    broken.set()

    def work(n: int) -> None:
        if n == 2 and broken.is_set():
            raise PermanentError("two")

    @app.workflow
    def listens(ctx: Context, seen: list[int]) -> Flow[list[int]]:
        event = yield from WaitEvent("n")
        if ctx.checkpoint_cursor is None:
            yield Checkpoint(1)
        yield Step(work, event)
        seen = [*seen, event]
        if len(seen) < 4:
            yield from ContinueAsNew(seen)
        return seen

    flowgen_worker(app)
    run = flowgen_client.start(listens, [])
    for n in range(4):
        flowgen_client.emit("n", n)
    with pytest.raises(RunFailed, match="two"):
        run.result(timeout=20)
    broken.clear()
    flowgen_client.retry(run.id, from_scratch=True)
    assert run.result(timeout=20) == [0, 1, 2, 3]


PASSES = """
from flowgen import ContinueAsNew, WaitEvent

def work(n):
    note(f"work {n}")
    gate(f"go {n}")

@workflow
def listens(kind: str, seen: list[int], last: int) -> Flow[list[int]]:
    n = yield from (WaitEvent("n") if kind == "event" else WaitSignal("n"))
    yield from Step(work, n)
    seen = [*seen, n]
    if n < last:
        yield from ContinueAsNew(kind, seen, last)
    return seen
"""


@pytest.mark.parametrize("kind", ["event", "signal"])
def test_kill_9_between_two_passes_loses_and_repeats_no_message(
    program: Program, flowgen_client: Client, kind: str
) -> None:
    """Killed while it works, at the commit of a pass before and after it is made; messages come while nobody works."""
    program.write(PASSES)

    def tell(n: int) -> None:
        if kind == "event":
            flowgen_client.emit("n", n)
        else:
            flowgen_client.signal("loop", "n", n)

    run = flowgen_client.start(call("listens", kind=kind, seen=[], last=7).opts(id="loop"))
    tell(0)
    worker = program.start()
    program.noted("work 0")
    tell(1)
    worker.kill()  # in the middle of a pass
    tell(2)
    for n, point in enumerate(("complete.before_commit", "complete.after_commit")):
        worker = program.start(workers=0, FLOWGEN_FAILPOINTS=f"{point}=kill")
        program.open(f"go {n}")
        worker.ended(30)
        tell(3 + n)
    # The first of these has worked on 0 and committed nothing of its end, so the second has done that.
    worker = program.start()
    for n in range(1, 5):
        program.open(f"go {n}")
    program.noted("work 4", timeout=30)
    program.open("go 5")
    worker.kill()
    tell(5)
    tell(6)
    tell(7)
    program.start()
    for n in range(6, 8):
        program.open(f"go {n}")
    assert run.result(timeout=60) == list(range(8))
