"""What an operator decides about one command of a run: tried again, skipped, completed; the handler goes on."""

from __future__ import annotations

import threading
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import App, Flow, FlowgenError, PermanentError, Retry, RunFailed, Step, StepFailed
from flowgen.client.sync import Client
from flowgen.testing.workers import Workers
from tests.waiting import eventually


def test_a_failed_step_is_completed_by_hand_and_the_handler_goes_on(
    app: App, flowgen_client: Client, flowgen_worker: Workers, flowgen_database: str
) -> None:
    calls: list[str] = []

    def charge(order: str) -> str:
        calls.append(order)
        return f"ch_{order}"

    def ship(order: str, receipt: str) -> str:
        raise PermanentError("no address")

    @app.workflow
    def checkout(order: str) -> Flow[str]:
        receipt = yield from Step(charge, order)
        parcel = yield from Step(ship, order, receipt)
        return f"{receipt} {parcel}"

    flowgen_worker(app)
    run = flowgen_client.start(checkout.call("o").opts(id="o-1"))
    with pytest.raises(RunFailed):
        run.result(timeout=30)
    with pytest.raises(
        FlowgenError,
        match=r"complete of 'charge' in run o-1: it has not failed, its outcome is value; "
        r"these can be decided about: ship",
    ):
        flowgen_client.steps.complete("o-1", "charge", "x")
    with pytest.raises(FlowgenError, match=r"retry of 'shop' in run o-1: it has not failed, there is no such command"):
        flowgen_client.steps.retry("o-1", "shop")
    flowgen_client.steps.complete("o-1", "ship", "parcel-7", by="ann", reason="sent by hand")
    assert run.result(timeout=30) == "ch_o parcel-7"
    assert calls == ["o"]
    aside = [item for item in flowgen_client.history("o-1") if item.kind == "set_aside"]
    assert [(item.value["who"], item.value["why"]) for item in aside] == [("ann", "complete: sent by hand")]
    with psycopg.connect(flowgen_database) as conn:
        audit = conn.execute("SELECT action, subject, who, reason FROM flowgen.audit").fetchall()
    assert audit == [("complete", "ship", "ann", "sent by hand")]
    with pytest.raises(FlowgenError, match="run o-1 is completed"):
        flowgen_client.steps.skip("o-1", "ship", "x")


def test_a_value_that_does_not_fit_leaves_the_run_failed_and_says_why(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    def count() -> int:
        raise PermanentError("no")

    @app.workflow
    def work() -> Flow[int]:
        return (yield from Step(count))

    flowgen_worker(app)
    run = flowgen_client.start(work.call())
    with pytest.raises(RunFailed):
        run.result(timeout=30)
    flowgen_client.steps.complete(run.id, "count", "many")
    with pytest.raises(RunFailed) as failed:
        run.result(timeout=30)
    assert "complete of count: the result of count cannot be read at $" in failed.value.failure.details["refused"]
    flowgen_client.steps.complete(run.id, "count", 7)
    assert run.result(timeout=30) == 7


def test_a_failed_step_is_tried_again_with_all_its_attempts(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    broken = threading.Event()
    broken.set()
    attempts: list[int] = []

    def ship() -> str:
        attempts.append(flowgen.current().attempt)
        if broken.is_set():
            raise ValueError("broken")
        return "sent"

    @app.workflow
    def work() -> Flow[str]:
        return (yield from Step(ship).opts(retry=Retry(2, initial=0)))

    flowgen_worker(app)
    run = flowgen_client.start(work.call())
    with pytest.raises(RunFailed):
        run.result(timeout=30)
    broken.clear()
    flowgen_client.steps.retry(run.id, "ship")
    assert run.result(timeout=30) == "sent"
    assert attempts == [1, 2, 1]


@pytest.mark.parametrize("verb", ["retry", "complete", "skip"])
def test_a_step_that_waits_for_its_next_attempt_is_decided_about_at_once(
    app: App, flowgen_client: Client, flowgen_worker: Workers, verb: str
) -> None:
    broken = threading.Event()
    broken.set()

    def ship() -> str:
        if broken.is_set():
            raise ValueError("broken")
        return "sent"

    @app.workflow
    def work() -> Flow[str]:
        return (yield from Step(ship).opts(retry=Retry(5, initial=3600, maximum=3600)))

    flowgen_worker(app)
    run = flowgen_client.start(work.call())
    eventually(lambda: flowgen_client.get(run.id).status == "waiting")
    broken.clear()
    value: tuple[Any, ...] = () if verb == "retry" else ("by hand",)
    getattr(flowgen_client.steps, verb)(run.id, "ship", *value)
    assert run.result(timeout=30) == ("sent" if verb == "retry" else "by hand")


def test_a_caught_failure_is_undone_by_a_later_decision(
    app: App, flowgen_client: Client, flowgen_worker: Workers
) -> None:
    def ship() -> str:
        raise PermanentError("no")

    def refund() -> str:
        return "refunded"

    @app.workflow
    def work() -> Flow[str]:
        try:
            return (yield from Step(ship))
        except StepFailed:
            yield Step(refund)
            raise

    flowgen_worker(app)
    run = flowgen_client.start(work.call())
    with pytest.raises(RunFailed):
        run.result(timeout=30)
    flowgen_client.steps.skip(run.id, "ship", "nothing sent", by="bob")
    assert run.result(timeout=30) == "nothing sent"
