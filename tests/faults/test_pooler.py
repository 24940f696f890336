"""Behind pgbouncer in transaction mode: nothing needs a session, and what an operator does to it is only a pause."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import App, DatabaseError, Flow, RunNotFinished, Settings, Sleep, Step, Transaction
from flowgen.client.sync import connect
from flowgen.testing.workers import Workers
from tests.environments.pgbouncer import Pooler, missing
from tests.waiting import eventually

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(bool(missing()), reason=missing() or "it is there"),
]
WAIT = 60
COMMANDS = ["RECONNECT", "PAUSE", "RESUME", "KILL {database}", "RESUME {database}"]


@pytest.fixture
def pooler(flowgen_server_url: str) -> Iterator[Pooler]:
    with Pooler(flowgen_server_url, query_wait_timeout=1, pool_size=8) as made:
        yield made


@pytest.fixture
def workers(pooler: Pooler) -> Iterator[Callable[[str], Workers]]:
    """Stopped before the pooler is."""
    made: list[Workers] = []

    def make(url: str) -> Workers:
        made.append(Workers(url))
        return made[-1]

    yield make
    with contextlib.suppress(psycopg.Error):
        pooler.admin("RESUME")
    for each in made:
        each.stop()


def defined(app: App) -> Any:
    def charge(number: int) -> int:
        return number

    def book(conn: Any, number: int) -> int:
        conn.execute("INSERT INTO ledger VALUES (%s)", (number,))
        return number

    @app.workflow
    def work(number: int) -> Flow[int]:
        for _ in range(4):
            yield Step(charge, number)
            yield Sleep(0.05)
        return (yield from Transaction(book, number))

    return work


@pytest.mark.fault("F52")
def test_commands_of_its_console_and_a_long_wait_are_transient(
    flowgen_database: str, pooler: Pooler, workers: Callable[[str], Workers]
) -> None:
    app = App()
    work = defined(app)
    url = pooler.before(flowgen_database)
    with psycopg.connect(pooler.behind(flowgen_database), autocommit=True) as db:
        db.execute("CREATE TABLE ledger (number int)")
    name = url.partition("@/")[2].partition("?")[0]
    made = workers(url)
    accepted: list[flowgen.Run[int]] = []
    stop = threading.Event()

    def load() -> None:
        with connect(url, app=app, settings=Settings(pooler=True)) as client:
            number = 0
            while not stop.is_set():
                with contextlib.suppress(DatabaseError):
                    accepted.append(client.start(work.call(number).opts(id=f"run {number}")))
                    number += 1
                stop.wait(0.01)

    handle = made(app, pooler=True, lease=5)
    loading = threading.Thread(target=load)
    loading.start()
    try:
        for _ in range(2):
            for command in COMMANDS:
                before = len(accepted)
                pooler.admin(command.format(database=name))
                if command.startswith(("PAUSE", "KILL")):
                    stop.wait(1.5)  # beyond query_wait_timeout
                else:
                    eventually(lambda before=before: len(accepted) > before + 5, timeout=WAIT)  # type: ignore[misc]
    finally:
        with contextlib.suppress(psycopg.Error):  # it is not paused
            pooler.admin("RESUME")
        stop.set()
        loading.join()
    with connect(url, app=app, settings=Settings(pooler=True)) as client:
        for number, run in enumerate(accepted):
            assert client.result(run.id, timeout=WAIT) == number
    assert not handle.join(0)
    with psycopg.connect(pooler.behind(flowgen_database)) as db:
        booked = db.execute("SELECT number, count(*) FROM ledger GROUP BY number").fetchall()
    assert {count for _, count in booked} == {1}
    assert {number for number, _ in booked} >= set(range(len(accepted)))


@pytest.mark.fault("F51")
def test_nothing_of_a_session_is_left_on_the_servers_connections(
    flowgen_database: str, pooler: Pooler, workers: Callable[[str], Workers]
) -> None:
    """What the pooler hands from one client to another has no statement, setting, lock or channel of ours."""
    app = App()
    work = defined(app)
    url = pooler.before(flowgen_database)
    with psycopg.connect(pooler.behind(flowgen_database), autocommit=True) as db:
        db.execute("CREATE TABLE ledger (number int)")
        path = db.execute("SHOW search_path").fetchone()
    made = workers(url)
    made(app, pooler=True)
    made(app, pooler=True)
    with connect(url, app=app, settings=Settings(pooler=True)) as client:
        runs = client.start_many([work.call(number) for number in range(50)])
        assert [run.result(timeout=WAIT) for run in runs] == list(range(50))
        with pytest.raises(RunNotFinished):
            client.start(flowgen.call("unheard")).result(timeout=0.1)
    seen = 0
    for _ in range(30):
        with psycopg.connect(url, prepare_threshold=None) as conn:
            assert conn.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
            assert conn.execute("SELECT count(*) FROM pg_listening_channels()").fetchone() == (0,)
            assert conn.execute("SHOW search_path").fetchone() == path
            own = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
            assert conn.execute(own).fetchone() == (0,)
            seen += 1
    assert seen == 30
