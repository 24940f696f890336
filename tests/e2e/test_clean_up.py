"""What a cancelled run does in its `finally` blocks: it is asked once, and left alone."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import App, Flow, RunCancelled, Sleep, Step
from flowgen.client.sync import Client
from flowgen.failpoints import evicting
from flowgen.testing.workers import Workers
from tests.waiting import eventually

Db = psycopg.Connection[Any]


@pytest.mark.parametrize("cache", [0, 100])
def test_a_cancellation_is_recorded_once_however_often_the_clean_up_waits(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db, cache: int
) -> None:
    seen: list[str] = []

    @app.workflow
    def careful() -> Flow[None]:
        try:
            yield Sleep(60)
        finally:
            for name in ("one", "two"):
                yield Sleep(0.2)
                yield from Step(seen.append, name)

    flowgen_worker(app, cache=cache)
    run = flowgen_client.start(careful)
    eventually(lambda: run.refresh().status == "waiting")
    flowgen_client.cancel(run.id)
    with pytest.raises(RunCancelled):
        run.result(timeout=10)
    assert seen == ["one", "two"]
    found = db.execute("select count(*) from flowgen.entry where run_id = %s and key = ''", (run.uuid,)).fetchone()
    assert found == (1,)


def test_a_cancelled_run_that_waits_in_its_clean_up_is_left_alone(
    app: App, flowgen_client: Client, flowgen_worker: Workers, db: Db
) -> None:
    @app.workflow
    def careful() -> Flow[None]:
        try:
            yield Sleep(60)
        finally:
            yield Sleep(1)

    flowgen_worker(app)
    run = flowgen_client.start(careful)
    eventually(lambda: run.refresh().status == "waiting")
    flowgen_client.cancel(run.id)
    with pytest.raises(RunCancelled):
        run.result(timeout=10)
    claims = db.execute("select claim from flowgen.run where run_id = %s", (run.uuid,)).fetchone()
    assert claims == (3,) or evicting()  # begun, cancelled, woken by its timer


def test_a_clean_up_that_waits_long_says_what_it_is_and_ends_at_a_deadline(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    @app.workflow
    def careful() -> Flow[None]:
        try:
            yield Sleep(3600)
        finally:
            yield Sleep(7200)

    flowgen_worker(app)
    run = flowgen_client.start(careful)
    eventually(lambda: run.refresh().status == "waiting")
    flowgen_client.cancel(run.id)
    eventually(lambda: len(flowgen_client.history(run.id)) == 3)
    said = eventually(lambda: (why := flowgen_client.why(run.id)).code == "timer" and why.sentence)
    assert "is waiting: it was cancelled, and its clean-up waits for a timer until" in said
    flowgen_client.set_deadline(run.id, "100ms")
    with pytest.raises(RunCancelled):
        run.result(timeout=10)


def test_the_signal_of_a_clean_up_step_is_not_that_of_the_cancelled_one(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    aborted: list[bool] = []

    def long() -> None:
        flowgen.current().signal.wait(30)

    def clean() -> None:
        aborted.append(flowgen.current().signal.wait(0.6))

    @app.workflow
    def careful() -> Flow[None]:
        try:
            yield from Step(long)
        finally:
            yield from Step(clean)

    flowgen_worker(app)
    run = flowgen_client.start(careful)
    eventually(lambda: run.refresh().status == "running")
    flowgen_client.cancel(run.id)
    with pytest.raises(RunCancelled):
        run.result(timeout=10)
    assert aborted == [False]
