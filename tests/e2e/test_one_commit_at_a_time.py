"""A run's history grows in one order: one commit is on its way at a time, and outcomes are told by their index."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg

from flowgen import App, Client, Failure, Flow, Gather, Invoke, Retry, Step, StepFailed, Transaction
from flowgen.testing.workers import Workers


def pay(conn: Any, n: int) -> int:
    return int(conn.execute("select %s::int from pg_sleep(%s)", (n, 0.001 * n)).fetchone()[0])


async def count(n: int) -> int:
    """Outcomes come one by one, all the time."""
    loop = asyncio.get_running_loop()
    counted: asyncio.Future[int] = loop.create_future()
    loop.call_later(0.001 * n, counted.set_result, n)
    return await counted


def test_a_run_has_one_commit_on_its_way_beside_transactions(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: psycopg.Connection[Any]
) -> None:
    @app.workflow
    def busy(n: int) -> Flow[int]:
        total = 0
        for _ in range(6):
            parts = yield from Gather(
                *[Transaction(pay, each) for each in range(6)], *[Step(count, each) for each in range(16)]
            )
            total += sum(parts)
        return total

    flowgen_worker(app)
    runs = flowgen_client.start_many([busy.call(n) for n in range(8)])
    for run in runs:
        assert run.result(timeout=15) == 6 * (15 + 120)
        found = db.execute("select array_agg(index order by index) from flowgen.entry where run_id = %s", (run.uuid,))
        assert found.fetchone() == ([*range(1, 133)],)


def test_which_failure_ends_a_gather_is_the_same_on_every_replay(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: psycopg.Connection[Any]
) -> None:
    """The handler writes down which failure it was told of; a replay that told it of another one would diverge."""

    @app.task
    def fail(n: int) -> int:
        raise LookupError(str(n))

    @app.task
    def note(which: str) -> str:
        return which

    @app.workflow
    def child(n: int) -> Flow[int]:
        return n
        yield

    @app.workflow(determinism="strict")
    def race(n: int) -> Flow[str]:
        told = []
        for _ in range(3):
            try:
                yield from Gather(*[Step(fail, each).opts(retry=Retry(1)) for each in range(6)])
            except StepFailed as error:
                failure: Failure = error.failure
                told.append((yield from Step(note, failure.message)))
            yield from Invoke(child, n)
        return ",".join(told)

    flowgen_worker(app, cache=0)
    runs = flowgen_client.start_many([race.call(n) for n in range(10)])
    for run in runs:
        first = run.result(timeout=15).split(",")
        recorded = db.execute(
            "select value::json #>> '{}' from flowgen.entry where run_id = %s and key like 'note%%' order by index",
            (run.uuid,),
        ).fetchall()
        assert [row[0] for row in recorded] == first
