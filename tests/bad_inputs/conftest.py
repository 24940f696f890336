"""An app of its own for each test, and a look at the rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

import flowgen


@pytest.fixture
def app() -> flowgen.App:
    return flowgen.App()


@pytest.fixture
def db(flowgen_database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(flowgen_database, autocommit=True) as conn:
        yield conn
