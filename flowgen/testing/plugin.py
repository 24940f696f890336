"""The pytest plugin of flowgen: a server, and for each test a fresh database with its client, workers and clock.

It is loaded by every pytest run of an environment that has flowgen installed, so importing it imports neither psycopg
nor the embedded server; the fixtures do. It never touches a database that it has not created: on `FLOWGEN_TEST_URL` it
adds databases named `flowgen_test_...` and drops them. Invariant: a test's database is gone after the test, and the
embedded server and its data after the session, also with pytest-xdist, whose processes share one server.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import psycopg

    from flowgen.client.sync import Client
    from flowgen.testing.clock import Clock
    from flowgen.testing.workers import Workers

__all__ = ["flowgen_client", "flowgen_clock", "flowgen_database", "flowgen_server_url", "flowgen_worker"]

SETTINGS = {"max_connections": "300", "max_wal_size": "4GB"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--flowgen-evict`: workers keep no generator from one command to the next."""
    parser.getgroup("flowgen").addoption(
        "--flowgen-evict",
        action="store_true",
        help="have workers give a run back after every command, so that each is followed by a replay",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Tell workers of this process, and of those that it starts, whether to evict."""
    if config.getoption("--flowgen-evict"):
        os.environ["FLOWGEN_EVICT"] = "1"


@pytest.fixture(scope="session")
def flowgen_server_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server for tests: `FLOWGEN_TEST_URL`, else an embedded one that ends with the session."""
    given = os.environ.get("FLOWGEN_TEST_URL")
    if given:
        yield given
        return
    from flowgen.postgres import embedded

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "flowgen-server"
    with _sharing(folder) as last:
        yield embedded.ensure(folder, settings=SETTINGS, idle=3600)
        if last():
            embedded.stop(folder)
            embedded.reset(folder)


@pytest.fixture(scope="session")
def _flowgen_template(flowgen_server_url: str) -> Iterator[str]:
    """The name of a migrated database that the tests' databases are copies of; one per process."""
    name = f"flowgen_test_template_{secrets.token_hex(6)}"
    with _created(flowgen_server_url, name):
        _migrate(_url_of(flowgen_server_url, name))
        yield name


@pytest.fixture
def flowgen_database(flowgen_server_url: str, _flowgen_template: str) -> Iterator[str]:
    """The URL of a fresh, migrated database, dropped after the test whoever is still connected to it."""
    name = f"flowgen_test_{secrets.token_hex(6)}"
    with _created(flowgen_server_url, name, template=_flowgen_template):
        yield _url_of(flowgen_server_url, name)


@pytest.fixture
def flowgen_client(flowgen_database: str) -> Iterator[Client]:
    """A client of the test's own database, as `flowgen.connect` gives it: `flowgen_client.start(checkout, "o-1")`."""
    from flowgen.client.sync import connect

    with connect(flowgen_database) as client:
        yield client


@pytest.fixture
def flowgen_worker(flowgen_database: str) -> Iterator[Workers]:
    """Starts real workers on the test's own database: `flowgen_worker()`, or `flowgen_worker(app, queues=["mail"])`.

    A test that asks for it and never calls it has no worker. Each is stopped, gracefully, at the end of the test; one
    that ended with an error makes the test fail.
    """
    from flowgen.testing.workers import Workers

    workers = Workers(flowgen_database)
    try:
        yield workers
    finally:
        workers.stop()


@pytest.fixture
def flowgen_clock(flowgen_database: str) -> Clock:
    """The time of the test's own database: `flowgen_clock.advance("1h")`; the workers notice within their poll."""
    from flowgen.testing.clock import Clock

    return Clock(flowgen_database)


def _migrate(url: str) -> None:
    from flowgen.postgres.migrate import migrate_url

    migrate_url(url, schema="flowgen")


@contextlib.contextmanager
def _sharing(folder: Path) -> Iterator[Callable[[], bool]]:
    """Count this process among the users of a folder; the value tells, once, whether it is the last one."""
    import fcntl

    with folder.with_name(f"{folder.name}.users").open("ab") as users:
        fcntl.flock(users, fcntl.LOCK_SH)

        def last() -> bool:
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        yield last


@contextlib.contextmanager
def _created(server_url: str, name: str, template: str = "template1") -> Iterator[None]:
    from psycopg import sql

    create = sql.SQL("create database {} template {}").format(sql.Identifier(name), sql.Identifier(template))
    drop = sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
    with _connected(server_url) as connection:
        connection.execute(create)
    try:
        yield
    finally:
        with _connected(server_url) as connection:
            connection.execute(drop)


def _connected(url: str) -> psycopg.Connection:
    import psycopg

    return psycopg.connect(url, autocommit=True)


def _url_of(url: str, database: str) -> str:
    """The same URL with another database; a keyword string (`host=...`) is taken too."""
    if "://" not in url:
        from psycopg.conninfo import make_conninfo

        return make_conninfo(url, dbname=database)
    return re.sub(r"^(\w+://[^/?]*)(/[^?]*)?", rf"\1/{database}", url, count=1)
