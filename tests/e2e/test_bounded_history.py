"""A loop with checkpoints keeps a history of constant size, however long it goes on."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest

from flowgen import App, Checkpoint, Context, Flow, Gather, Sleep, Step, Uuid
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.waiting import eventually

Db = psycopg.Connection[Any]

SIZE = """
SELECT (SELECT count(*) FROM flowgen.entry),
    (SELECT coalesce(sum(pg_column_size(e.*)), 0) FROM flowgen.entry e)
    + (SELECT sum(pg_column_size(r.*)) FROM flowgen.run r)
    + (SELECT coalesce(sum(pg_column_size(i.*)), 0) FROM flowgen.inbox i),
    (SELECT count(*) FROM flowgen.inbox), (SELECT count(*) FROM flowgen.former)
"""
DISK = "SELECT pg_total_relation_size('flowgen.entry') + pg_total_relation_size('flowgen.run')"


def size(db: Db, statement: str = SIZE) -> tuple[int, ...]:
    row = db.execute(statement).fetchone()
    assert row is not None
    return tuple(map(int, row))


@pytest.mark.parametrize(
    ("durability", "iterations"),
    [
        ("step", 500),
        ("checkpoint", 2000),
        pytest.param("checkpoint", 1_000_000, marks=[pytest.mark.nightly, pytest.mark.timeout(0)]),
    ],
)
def test_rows_and_bytes_of_a_run_are_constant_over_its_checkpoints(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db, durability: Any, iterations: int
) -> None:
    """What is stored in the middle of twenty iterations, the last one among them: two rows, and as many bytes."""
    sizes: list[tuple[int, ...]] = []
    every = iterations // 20

    def item(n: int) -> int:
        if n % every == every - 1:
            sizes.append(size(db))
        return n

    @app.workflow(durability=durability)
    def loop(ctx: Context, last: int) -> Flow[int]:
        begun = yield from Uuid()
        total: int = ctx.accumulated_results or 0
        for n in range(ctx.checkpoint_cursor or 0, last):
            total += yield from Step(item, n)
            yield Checkpoint(n + 1, n + 1, total)
        assert begun.int
        return total

    flowgen_worker(app)
    began = time.monotonic()
    run = flowgen_client.start(loop, iterations)
    assert run.result(timeout=30 + iterations / 50) == sum(range(iterations))
    lasted = time.monotonic() - began
    rows = [found[0] for found in sizes]
    most = [found[1] for found in sizes]
    print(
        f"{iterations} checkpoints, durability={durability}: rows {min(rows)} to {max(rows)}, bytes {min(most)} to "
        f"{max(most)}, bytes on disk {size(db, DISK)[0]}, {lasted:.1f} s"
    )
    assert len(sizes) == 20
    assert set(rows) == {2}, "the outcome of the prologue, and the checkpoint"
    assert max(most) - min(most) <= 40, "only the numbers that are saved have more digits"
    assert {found[2:] for found in sizes} == {(0, 0)}
    assert [item.kind for item in flowgen_client.history(run.id)] == ["outcome", "checkpoint"]


def test_what_the_author_named_stays_and_all_else_of_a_long_segment_goes_bit_by_bit(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    calls: list[int] = []

    def once() -> int:
        calls.append(1)
        return len(calls)

    @app.workflow
    def loop(ctx: Context) -> Flow[list[int]]:
        for n in range(ctx.checkpoint_cursor or 0, 4):
            yield Gather(*[Uuid() for _ in range(2500)])
            if n in (0, 3):
                yield Step(once).opts(name=f"once {n}")
            yield Checkpoint(n + 1)
        yield Sleep(0.01)
        first = yield from Step(once).opts(name="once 0")
        last = yield from Step(once).opts(name="once 3")
        return [first, last]

    flowgen_worker(app, cache=0)
    run = flowgen_client.start(loop)
    assert run.result(timeout=60) == [1, 2]
    assert calls == [1, 1]
    eventually(lambda: size(db)[3] == 0, timeout=30)
    found = [item.path for item in flowgen_client.history(run.id) if item.kind != "armed"]
    assert found == ["once 0", "once 3", "checkpoint", "sleep"]
