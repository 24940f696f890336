"""The proxy of the tests does to connections what it is told, and nothing else."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.pq import ExecStatus

from tests.proxy import Proxy
from tests.waiting import eventually

Db = psycopg.Connection[Any]


@pytest.fixture
def proxy(flowgen_server_url: str) -> Iterator[Proxy]:
    with Proxy(flowgen_server_url) as made:
        yield made


def connected(proxy: Proxy, url: str, name: str = "one", **options: Any) -> Db:
    return psycopg.connect(proxy.url(url), autocommit=True, application_name=name, **options)


def works(proxy: Proxy, url: str, name: str = "one") -> bool:
    """Whether a new connection is of use."""
    with connected(proxy, url, name) as conn:
        return conn.execute("select 1").fetchone() == (1,)


def ask(conn: Db) -> None:
    """Send a question, and do not wait for its answer."""
    conn.pgconn.send_query(b"select 1")
    conn.pgconn.flush()


def answered(conn: Db) -> bool:
    """Whether what was asked was answered, rather than the connection ended."""
    return [result.status for result in iter(conn.pgconn.get_result, None)] == [ExecStatus.TUPLES_OK]


def heard(conn: Db, seconds: float) -> bool:
    """Whether anything comes within so many seconds, an answer or the end of the connection."""
    return bool(select.select([conn.fileno()], [], [], seconds)[0])


def test_what_is_sent_arrives_and_connections_are_counted(proxy: Proxy, flowgen_database: str) -> None:
    began = time.monotonic()
    large = "x" * 3_000_000
    with connected(proxy, flowgen_database) as one, connected(proxy, flowgen_database, "two") as two:
        assert one.execute("select %s || '!'", (large,)).fetchone() == (large + "!",)
        assert two.execute("select count(*) from generate_series(1, 100000)").fetchone() == (100000,)
        assert sorted(proxy.open) == ["one", "two"]
    assert [each.name for each in proxy.accepted] == ["one", "two"]
    assert all(began < each.at < time.monotonic() for each in proxy.accepted)
    eventually(lambda: proxy.open == [])


def test_a_blackhole_swallows_what_the_chosen_connections_send_and_keeps_them_open(
    proxy: Proxy, flowgen_database: str
) -> None:
    with connected(proxy, flowgen_database) as one, connected(proxy, flowgen_database, "two") as two:
        proxy.blackhole("two")
        ask(two)
        assert not heard(two, 0.2)
        with pytest.raises(psycopg.OperationalError, match="timeout"):
            connected(proxy, flowgen_database, "two", connect_timeout=2)
        assert one.execute("select 1").fetchone() == (1,)
        proxy.pass_through()
        assert heard(two, 10)
        assert not answered(two)
        assert works(proxy, flowgen_database, "two")


def test_what_stalls_arrives_later(proxy: Proxy, flowgen_database: str) -> None:
    with connected(proxy, flowgen_database) as one:
        proxy.stall()
        ask(one)
        assert not heard(one, 0.2)
        proxy.pass_through()
        assert heard(one, 10)
        assert answered(one)


def test_connections_are_refused_and_reset(proxy: Proxy, flowgen_database: str) -> None:
    with connected(proxy, flowgen_database) as one, connected(proxy, flowgen_database, "two") as two:
        proxy.refuse()
        with pytest.raises(psycopg.OperationalError, match="refused"):
            connected(proxy, flowgen_database)
        assert proxy.reset("on?") == 1
        with pytest.raises(psycopg.OperationalError):
            one.execute("select 1")
        assert two.execute("select 1").fetchone() == (1,)
        proxy.accept()
        assert works(proxy, flowgen_database)


def test_a_slow_line_takes_its_time_and_a_bad_one_breaks(proxy: Proxy, flowgen_database: str) -> None:
    with connected(proxy, flowgen_database) as one:
        began = time.monotonic()
        proxy.line(latency=0.1)
        one.execute("select 1")
        assert time.monotonic() - began >= 0.2
        proxy.line(bandwidth=200_000)
        began = time.monotonic()
        one.execute("select repeat('x', 100000)")
        assert time.monotonic() - began >= 0.4
        proxy.line(resets=1)
        with pytest.raises(psycopg.OperationalError):
            one.execute("select 1")


def commit_at_once(conn: Db) -> None:
    with conn.pipeline():
        conn.execute("begin")
        conn.execute("insert into noted values (%s)", (7,))
        conn.execute("commit")


@pytest.mark.parametrize("prepared", [False, True])
def test_what_was_committed_is_not_told(proxy: Proxy, flowgen_database: str, prepared: bool) -> None:
    with connected(proxy, flowgen_database) as one, psycopg.connect(flowgen_database, autocommit=True) as db:
        db.execute("create table noted (n int)")
        for n in range(3 if prepared else 0):
            one.execute("insert into noted values (%s)", (n,), prepare=True)
        loss = proxy.lose_next_ack(r"INTO\s+noted", "one")
        one.execute("select 1")
        with pytest.raises(psycopg.OperationalError):
            commit_at_once(one)
        loss.wait()
        assert "insert" in loss.text
        assert db.execute("select count(*) from noted where n = 7").fetchone() == (1,)
        assert works(proxy, flowgen_database)


def test_a_commit_alone_is_not_told(proxy: Proxy, flowgen_database: str) -> None:
    with psycopg.connect(flowgen_database, autocommit=True) as db:
        db.execute("create table noted (n int)")
        loss = proxy.lose_next_ack("^commit")
        with psycopg.connect(proxy.url(flowgen_database), autocommit=True) as one:
            one.execute("begin")
            one.execute("insert into noted values (1)")
            with pytest.raises(psycopg.OperationalError):
                one.execute("commit")
        loss.wait()
        assert db.execute("select n from noted").fetchall() == [(1,)]


def test_a_proxy_in_a_process_of_its_own_does_what_it_is_told(flowgen_server_url: str, flowgen_database: str) -> None:
    command = [sys.executable, "-m", "tests.proxy", flowgen_server_url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def tell(**what: Any) -> Any:
            process.stdin.write(json.dumps(what) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())["answer"]

        port = json.loads(process.stdout.readline())["port"]
        conn = psycopg.connect(flowgen_database, host="127.0.0.1", port=port, application_name="one", autocommit=True)
        assert tell(do="open") == ["one"]
        assert tell(do="accepted")[0][0] == "one"
        loss = tell(do="lose_next_ack", matching="select 7")
        assert tell(do="lost", loss=loss) is False
        with pytest.raises(psycopg.OperationalError):
            conn.execute("select 7")
        conn.close()
        assert tell(do="lost", loss=loss) is True
        process.stdin.close()
        assert process.wait(20) == 0
