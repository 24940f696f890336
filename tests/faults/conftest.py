"""An app of its own for each test, a proxy before its server, and a look at the rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen.testing.workers import Workers
from tests.e2e.processes import Program
from tests.proxy import Proxy


@pytest.fixture
def app() -> flowgen.App:
    return flowgen.App()


@pytest.fixture
def db(flowgen_database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(flowgen_database, autocommit=True) as conn:
        yield conn


@pytest.fixture
def proxy(flowgen_server_url: str) -> Iterator[Proxy]:
    with Proxy(flowgen_server_url) as made:
        yield made


@pytest.fixture
def far_worker(proxy: Proxy, flowgen_database: str) -> Iterator[Workers]:
    """As `flowgen_worker`, by way of the proxy."""
    workers = Workers(proxy.url(flowgen_database))
    try:
        yield workers
    finally:
        workers.stop()


@pytest.fixture
def program(tmp_path: Path, flowgen_database: str, db: psycopg.Connection[Any]) -> Iterator[Program]:
    """A worker program of its own process; whatever is left of it is killed after the test."""
    made = Program(tmp_path, flowgen_database, db)
    try:
        yield made
    finally:
        made.end()
