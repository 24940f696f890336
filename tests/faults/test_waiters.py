"""Thousands of programs wait for results at once, and the workers do not notice."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import App, Flow, Sleep
from flowgen.testing.workers import Workers

Db = psycopg.Connection[Any]


def check_waiters(app: App, url: str, db: Db, workers: Workers, count: int, within: float) -> None:
    @app.workflow
    def waits() -> Flow[int]:
        yield Sleep("1h")
        return 1

    async def storm() -> tuple[int, list[float]]:
        async with await flowgen.connect_async(url) as client:
            runs = [run for _ in range(count // 1000) for run in await client.start_many([waits.call()] * 1000)]
            waiting = [asyncio.create_task(run.result(timeout=300)) for run in runs]
            beats, connections = [], 0
            for _ in range(20):
                began = time.monotonic()
                await asyncio.to_thread(db.execute, "update flowgen.worker set idle = idle")
                beats.append(time.monotonic() - began)
                row = await asyncio.to_thread(
                    lambda: db.execute(
                        "select count(*) from pg_stat_activity where application_name = 'flowgen client' "
                        "and datname = current_database()"
                    ).fetchone()
                )
                connections = max(connections, row[0])
                await asyncio.sleep(0.05)
            assert not any(each.done() for each in waiting)
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            return connections, sorted(beats)

    workers(app, lease=5)
    connections, beats = asyncio.run(storm())
    assert connections <= 10
    assert beats[len(beats) // 2] < within, beats
    assert db.execute("select count(*), max(recoveries) from flowgen.worker, flowgen.run").fetchone()[1] == 0
    assert db.execute("select count(*) from flowgen.worker").fetchone() == (1,)


@pytest.mark.fault("F75")
def test_a_thousand_waiters_share_a_question(app: App, flowgen_database: str, db: Db, flowgen_worker: Workers) -> None:
    check_waiters(app, flowgen_database, db, flowgen_worker, 1000, 0.5)


@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.fault("F75")
def test_ten_thousand_waiters_share_a_question(
    app: App, flowgen_database: str, db: Db, flowgen_worker: Workers
) -> None:
    check_waiters(app, flowgen_database, db, flowgen_worker, 10_000, 0.1)
