"""Code that was changed under its runs, and two engines in one database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import App, Flow, Settings, Sleep, Start, Step
from flowgen.client.sync import Client, connect
from flowgen.testing.workers import Workers
from tests.waiting import eventually

Handler = Callable[[], Iterator[Any]]


def one() -> int:
    return 1


def two() -> int:
    return 2


def three() -> int:
    return 3


def until_asked(gate: str) -> Flow[int]:
    """The steps that every version begins with; the run then waits, with three outcomes recorded."""
    return (yield from Step(one)) + (yield from Step(two)) + len(gate)


def recorded() -> Flow[int]:
    total = yield from until_asked("")
    yield from Sleep(3600)
    return total


def renamed() -> Flow[int]:
    total = (yield from Step(one)) + (yield from Step(two).opts(name="second"))
    yield from Sleep(3600)
    return total


def reordered() -> Flow[int]:
    total = (yield from Step(two)) + (yield from Step(one))
    yield from Sleep(3600)
    return total


def inserted() -> Flow[int]:
    total = yield from Step(three)
    total += yield from until_asked("")
    yield from Sleep(3600)
    return total


def removed() -> Flow[int]:
    total = yield from Step(one)
    yield from Sleep(3600)
    return total


def another_kind() -> Flow[int]:
    total = yield from Step(one)
    yield from Start(App().task(two)).opts(name="two")
    yield from Sleep(3600)
    return total


CHANGES: dict[Handler, tuple[str, ...]] = {
    renamed: ("step two", "second"),
    reordered: ("step one", "two"),
    inserted: ("step one", "three"),
    removed: ("step two", "sleep"),
    another_kind: ("step two", "start"),
}


@pytest.mark.fault("F69")
def test_code_that_does_not_fit_parks_its_runs_with_both_sides_and_code_that_does_goes_on(
    flowgen_client: Client, flowgen_worker: Workers, flowgen_clock: Any
) -> None:
    def version(*, new: bool) -> App:
        app = App()
        for handler in CHANGES:
            app.workflow(handler if new else recorded, name=handler.__name__)
        return app

    old = flowgen_worker(version(new=False))
    runs = {change: flowgen_client.start(flowgen.call(change.__name__)) for change in CHANGES}
    eventually(lambda: all(run.refresh().status == "waiting" for run in runs.values()))
    old.stop()

    new = flowgen_worker(version(new=True))
    flowgen_clock.advance("2h")
    eventually(lambda: all(run.refresh().status == "parked" for run in runs.values()))
    for change, (stored, yields) in CHANGES.items():
        error = runs[change].refresh().error
        assert error is not None
        shown = str(error.details)
        assert error.type == "Divergence"
        assert stored.rpartition(" ")[2] in shown, shown
        assert yields in shown, shown
        assert "test_deploys.py" in shown, shown
    new.stop()

    flowgen_worker(version(new=False))
    for run in runs.values():
        flowgen_client.resume(run.id)
    assert [run.result(timeout=20) for run in runs.values()] == [3] * len(CHANGES)


@pytest.mark.fault("F73")
def test_two_engines_in_one_database_share_no_channel_no_lock_and_no_version(flowgen_database: str) -> None:
    app = App()
    job = app.task(one)
    with (
        connect(flowgen_database, app=app, settings=Settings(schema="left")) as left,
        connect(flowgen_database, app=app, settings=Settings(schema="right")) as right,
        psycopg.connect(flowgen_database, autocommit=True) as listener,
        psycopg.connect(flowgen_database, autocommit=True) as db,
    ):
        listener.execute('LISTEN "flowgen.left"')
        with flowgen.worker(flowgen_database, app=app, settings=Settings(schema="right", poll=0.1)):
            ended = right.start(job)
            assert ended.result(timeout=10) == 1
        waits = left.start(job)
        assert list(listener.notifies(timeout=0.2)) == []
        assert left.get(waits.id).status == "pending"
        assert "no worker is live" in str(left.why(waits.id))
        db.execute('UPDATE "left".migration SET version = version + 100 WHERE version = 1')
        assert right.start(job).id != waits.id
        with pytest.raises(flowgen.SchemaError, match="newer"):
            connect(flowgen_database, app=app, settings=Settings(schema="left"))
