"""What waiting for a result guarantees."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import attrs
import psycopg
import pytest

import flowgen
from flowgen import Flow, RunCancelled, RunFailed, RunNotFinished
from flowgen.client.sync import Client
from tests.waiting import eventually

Checkout = flowgen.Workflow[..., Any, str]

OF_CLIENT = "datname = current_database() AND application_name = 'flowgen client'"


@attrs.frozen
class Receipt:
    id: str
    lines: tuple[int, ...]


@pytest.fixture
def receipt(app: flowgen.App) -> flowgen.Workflow[..., Any, Receipt]:
    @app.workflow
    def receipt() -> Flow[Receipt]:
        yield from ()
        return Receipt("", ())

    return receipt


def test_the_result_is_decoded_by_the_definitions_annotation(verbs: Any, receipt: Any, store: Any) -> None:
    run = verbs.start(receipt.call().opts(id="x"))
    store.complete(run.uuid, '{"id":"r","lines":[1,2]}')
    settle = getattr(verbs, "settle", lambda value: value)
    assert settle(run.result(timeout=30)) == Receipt("r", (1, 2))
    assert verbs.result("x", timeout=30) == verbs.result(run.uuid) == Receipt("r", (1, 2))
    assert settle(run.refresh()).output == Receipt("r", (1, 2))


def test_a_run_without_a_known_definition_gives_plain_values(verbs: Any, store: Any) -> None:
    run = verbs.start(flowgen.call("elsewhere"))
    store.complete(run.uuid, '{"a":[1,null]}')
    assert verbs.result(run.id) == {"a": [1, None]}


def test_a_failed_run_raises_its_failure(verbs: Any, checkout: Checkout, store: Any) -> None:
    run = verbs.start(checkout.call().opts(id="x"))
    store.fail(run.uuid, '{"type":"ValueError","message":"boom","traceback":"tb","details":{"a":1}}')
    with pytest.raises(RunFailed, match="Run x failed: ValueError: boom") as raised:
        verbs.result("x")
    assert raised.value.failure == verbs.get("x").error
    assert raised.value.failure.details == {"a": 1}


def test_a_cancelled_run_raises_with_its_reason(verbs: Any, checkout: Checkout) -> None:
    verbs.start(checkout.call().opts(id="x"))
    verbs.cancel("x", "no stock")
    with pytest.raises(RunCancelled, match="Run x was cancelled: no stock"):
        verbs.result("x")


@pytest.mark.parametrize("timeout", [0, 0.05, "20ms", timedelta(milliseconds=10)])
def test_a_timeout_says_why_the_run_has_not_ended(verbs: Any, checkout: Checkout, timeout: Any) -> None:
    run = verbs.start(checkout.call().opts(id="x"))
    with pytest.raises(RunNotFinished, match="x .*no worker is live") as raised:
        verbs.result("x", timeout=timeout)
    assert isinstance(raised.value, TimeoutError)
    settle = getattr(verbs, "settle", lambda value: value)
    with pytest.raises(RunNotFinished):
        settle(run.result(timeout))


def test_a_waiter_sees_an_end_that_comes_later(verbs: Any, checkout: Checkout, store: Any) -> None:
    run = verbs.start(checkout)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(verbs.result, run.id, 30)
        store.complete(run.uuid, '"late"')
        assert waiting.result(30) == "late"


def test_many_waiters_of_many_runs_all_get_theirs(client: Client, checkout: Checkout, store: Any) -> None:
    runs = client.start_many(checkout.call(str(number)) for number in range(20))
    with ThreadPoolExecutor(40) as threads:
        waiting = [threads.submit(run.result, 30) for run in runs for _ in range(2)]
        for number, run in enumerate(runs):
            store.complete(run.uuid, f'"{number}"')
        assert [each.result(30) for each in waiting] == [str(number) for number in range(20) for _ in range(2)]


def test_all_waiters_of_a_client_ask_one_question(client: Client, checkout: Checkout, store: Any, db: Any) -> None:
    runs = client.start_many(checkout.call(str(number)) for number in range(30))
    with ThreadPoolExecutor(30) as threads:
        waiting = [threads.submit(run.result, 30) for run in runs]
        eventually(lambda: len(client._operations.waiters.asked()) == 30)
        sessions = f"SELECT count(*) FROM pg_stat_activity WHERE {OF_CLIENT}"
        assert db.execute(sessions).fetchone()[0] <= 2
        for run in runs:
            store.complete(run.uuid, '"x"')
        assert {each.result(30) for each in waiting} == {"x"}
    assert client._operations.waiters.asked() == []


def test_a_waiter_that_gives_up_hands_on_the_lead(client: Client, checkout: Checkout, store: Any) -> None:
    first, second = client.start(checkout), client.start(checkout)
    leading = threading.Event()

    def give_up() -> None:
        leading.set()
        with pytest.raises(RunNotFinished):
            first.result(0.2)

    with ThreadPoolExecutor(2) as threads:
        gone = threads.submit(give_up)
        leading.wait(10)
        waiting = threads.submit(second.result, 30)
        gone.result(30)
        store.complete(second.uuid, '"x"')
        assert waiting.result(30) == "x"


def test_a_waiter_survives_the_loss_of_its_connection(verbs: Any, checkout: Checkout, store: Any, db: Any) -> None:
    run = verbs.start(checkout)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(verbs.result, run.id, 30)
        killed = f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {OF_CLIENT}"
        for _ in range(3):
            eventually(lambda: db.execute(killed).fetchone()[0])
        store.complete(run.uuid, '"x"')
        assert waiting.result(30) == "x"


def test_a_cancelled_task_waits_no_longer(flowgen_database: str, app: flowgen.App, checkout: Checkout) -> None:
    import asyncio

    from flowgen.client.aio import connect_async

    async def go() -> None:
        async with connect_async(flowgen_database, app=app) as client:
            run = await client.start(checkout)
            task = asyncio.create_task(run.result())
            while not client._operations.waiters.asked():  # noqa: ASYNC110 - nothing else tells
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert client._operations.waiters.asked() == []

    asyncio.run(go())


def test_the_wait_asks_the_index_even_when_its_plan_was_made_on_an_empty_table(
    client: Client, checkout: Checkout, db: psycopg.Connection[Any]
) -> None:
    if db.info.server_version < 150000:
        pytest.skip("statistics cannot be flushed at will")
    db.execute("SET plan_cache_mode = force_generic_plan")
    row = db.execute("SELECT count(*) FROM flowgen.ended(ARRAY[gen_random_uuid()])").fetchone()
    assert row == (1,)
    client.start_many(checkout.call(str(number)) for number in range(2_000))
    before = _scans(db)
    db.execute("SELECT count(*) FROM flowgen.ended(ARRAY(SELECT run_id FROM flowgen.run LIMIT 3))")
    assert _scans(db) == before


def _scans(db: psycopg.Connection[Any]) -> int:
    db.execute("SELECT pg_stat_force_next_flush()")
    row = db.execute("SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'run'").fetchone()
    assert row is not None
    return int(row[0]) // 1000


def test_a_wait_that_makes_no_headway_logs_why_once(
    client: Client, checkout: Checkout, store: Any, caplog: pytest.LogCaptureFixture
) -> None:
    ticks = iter(range(1_000_000))
    hurried = attrs.evolve(client, operations=attrs.evolve(client._operations, clock=lambda: next(ticks) * 10.0))
    run = hurried.start(checkout.call().opts(id="x"))

    def lines() -> list[logging.LogRecord]:
        return [each for each in caplog.records if each.name == "flowgen"]

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(run.result)
        try:
            eventually(lines)
            said_at = next(ticks)
            eventually(lambda: next(ticks) > said_at + 20)
        finally:
            store.complete(run.uuid, '"x"')
        assert waiting.result(30) == "x"
    [line] = lines()
    assert line.levelname == "WARNING"
    assert "waiting for run x since" in line.getMessage()
    assert "no worker is live" in line.getMessage()
