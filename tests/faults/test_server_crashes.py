"""The server dies, restarts and refuses, while workers have runs in flight."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen import App
from flowgen.testing.workers import Workers
from tests.faults.servers import OwnServer, check_storage, own_server
from tests.faults.traffic import Traffic, ledger
from tests.proxy import Proxy
from tests.waiting import eventually

Db = psycopg.Connection[Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    with own_server(tmp_path_factory.mktemp("own") / "server") as made:
        yield made


_names = count(1)


@pytest.fixture
def url(server: OwnServer) -> str:
    return server.database(f"crash_{next(_names)}")


def kill(server: OwnServer) -> None:
    server.kill()
    server.start()


def ended(conn: Db) -> bool:
    try:
        conn.execute("select 1")
    except psycopg.OperationalError:
        return True
    return False


def refused(server: OwnServer) -> bool:
    try:
        psycopg.connect(server.url).close()
    except psycopg.OperationalError as error:
        return "shutting down" in str(error)
    return False


def kill_one(server: OwnServer) -> None:
    """kill -9 of a process that serves one of our connections: the server ends all of them and recovers."""
    with server.connected(server.url) as conn:
        found = conn.execute(
            "select pid from pg_stat_activity where application_name = 'flowgen flush' order by pid limit 1"
        ).fetchone()
        assert found is not None
        os.kill(found[0], signal.SIGKILL)
        eventually(lambda: ended(conn))


def stop_smart(server: OwnServer) -> None:
    """A smart stop waits for our sessions, which do not go by themselves: a fast one then ends it."""
    os.kill(server.pid, signal.SIGTERM)
    eventually(lambda: refused(server))
    server.stop("fast")
    server.start()


FAULTS = [
    pytest.param(kill, marks=pytest.mark.fault("F29", "F45"), id="the server is killed"),
    pytest.param(kill_one, marks=pytest.mark.fault("F30", "F45"), id="one of its processes is killed"),
    pytest.param(stop_smart, marks=pytest.mark.fault("F34"), id="it is stopped and started"),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_acknowledged_is_lost_when(
    fault: Callable[[OwnServer], None], server: OwnServer, url: str, app: App
) -> None:
    with Proxy(server.url) as proxy, flowgen.connect(url) as client:
        with server.connected(url) as db:
            ledger(db)
        traffic = Traffic(app, client)
        workers = Workers(proxy.url(url))
        try:
            for _ in range(2):
                workers(app, lease=8)
            with traffic:
                for _ in range(2):
                    traffic.goes_on()
                    fault(server)
                    traffic.goes_on()
            with server.connected(url) as db:
                traffic.check(db, again=10 * len(traffic.calls))
        finally:
            workers.stop()
    with server.connected(url) as db:
        check_storage(db)


@pytest.mark.fault("F49")
def test_workers_do_not_storm_a_server_that_is_away(server: OwnServer, url: str, app: App) -> None:
    with Proxy(server.url) as proxy, flowgen.connect(url) as client:
        with server.connected(url) as db:
            ledger(db)
        traffic = Traffic(app, client, pause=0.2)
        made = Workers(proxy.url(url))
        try:
            for _ in range(2):
                made(app, lease=8)
            with traffic:
                traffic.goes_on()
                server.stop("immediate")
                away_at = time.monotonic()
                eventually(lambda: time.monotonic() - away_at > 4)
                server.start()
                tries = Counter(each.name for each in proxy.accepted if away_at < each.at < away_at + 4)
                traffic.goes_on()
            with server.connected(url) as db:
                traffic.check(db, again=10 * len(traffic.calls))
        finally:
            made.stop()
    # Two workers, four seconds: each of their connections is asked for about once a second.
    links = [count for name, count in tries.items() if name not in {"flowgen transaction", "flowgen heartbeat"}]
    assert max(links) <= 2 * 9, tries
    assert sum(tries.values()) <= 2 * 4 * 8, tries
