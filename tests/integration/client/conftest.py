"""A client on a fresh database, and what tests do to rows that a worker would do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

import flowgen
from flowgen.client.sync import Client, connect


@pytest.fixture
def app() -> flowgen.App:
    return flowgen.App()


@pytest.fixture
def client(flowgen_database: str, app: flowgen.App) -> Iterator[Client]:
    with connect(flowgen_database, app=app) as made:
        yield made


@pytest.fixture
def db(flowgen_database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(flowgen_database, autocommit=True) as conn:
        yield conn
