"""What the verbs come to when a worker does its part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import flowgen
from flowgen import Flow, RunCancelled, RunFailed, RunStatus, Sleep, Step
from flowgen.client.queries import RunQuery
from flowgen.client.sync import Client
from tests.waiting import eventually


@pytest.fixture
def working(flowgen_database: str, app: flowgen.App, client: Client) -> Iterator[Callable[[str, str], Any]]:
    """Runs a worker; called with an id and a status it waits until the run has it."""

    def becomes(id: str, status: str) -> None:
        eventually(lambda: client.get(id).status == status, 30)

    with flowgen.worker(flowgen_database, app=app):
        yield becomes


@pytest.fixture
def parent(app: flowgen.App) -> flowgen.Workflow[..., Any, int]:
    @app.workflow
    def sleeper() -> Flow[int]:
        yield from Sleep("1h")
        return 1

    @app.workflow
    def parent() -> Flow[int]:
        return (yield from flowgen.Invoke(sleeper))

    return parent


def child_of(client: Client, id: str) -> Any:
    return eventually(lambda: client.list(RunQuery(parent=id)).runs, 30)[0].id


def test_a_retried_run_goes_on_from_what_it_has(client: Client, app: flowgen.App, request: Any) -> None:
    calls: list[str] = []

    @app.task
    def pay() -> str:
        calls.append("pay")
        return "paid"

    @app.task(retry=flowgen.Retry(1))
    def ship() -> str:
        calls.append("ship")
        if calls.count("ship") == 1:
            raise ValueError("no van")
        return "shipped"

    @app.workflow
    def order() -> Flow[list[str]]:
        return [(yield from Step(pay)), (yield from Step(ship))]

    request.getfixturevalue("working")
    run = client.start(order.call().opts(id="x"))
    with pytest.raises(RunFailed, match="ValueError: no van"):
        run.result(30)
    client.retry("x", by="ann")
    assert run.result(30) == ["paid", "shipped"]
    assert calls == ["pay", "ship", "ship"]
    assert client.get("x").attempt == 2
    assert [item.aside for item in client.history("x") if item.path == "ship"] == [True, False]
    with pytest.raises(flowgen.FlowgenError, match="is completed"):
        client.retry("x")


def test_a_pause_stops_a_tree_and_a_resume_lets_it_wait_again(client: Client, parent: Any, working: Any) -> None:
    client.start(parent.call().opts(id="p"))
    child = child_of(client, "p")
    working("p", "waiting")
    working(child, "waiting")
    assert client.why("p").code == "child"
    assert client.why(child).code == "timer"
    due = client.get(child).due_at
    client.pause("p")
    assert (client.get("p").status, client.get(child).status) == (RunStatus.PAUSED, RunStatus.PAUSED)
    client.resume("p")
    working(child, "waiting")
    assert client.get(child).due_at == due


def test_a_cancelled_tree_ends_with_its_reason(client: Client, parent: Any, working: Any) -> None:
    run = client.start(parent.call().opts(id="p"))
    child = child_of(client, "p")
    working(child, "waiting")
    client.cancel("p", "enough")
    with pytest.raises(RunCancelled, match="enough"):
        run.result(30)
    working(child, "cancelled")
    assert client.cancel("p").status is RunStatus.CANCELLED


def test_a_deadline_that_is_set_on_a_waiting_run_ends_it(client: Client, parent: Any, working: Any) -> None:
    run = client.start(parent.call().opts(id="p"))
    working("p", "waiting")
    client.set_deadline("p", 0.1)
    with pytest.raises(RunFailed, match="RunTimedOut"):
        run.result(30)
