"""An app of its own for each test, and a look at the rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

import flowgen
from tests.e2e.processes import Program


@pytest.fixture
def app() -> flowgen.App:
    return flowgen.App()


@pytest.fixture
def db(direct_database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(direct_database, autocommit=True) as conn:
        yield conn


@pytest.fixture
def program(tmp_path: Path, flowgen_database: str, db: psycopg.Connection[Any]) -> Iterator[Program]:
    """A worker program of its own process; whatever is left of it is killed after the test."""
    made = Program(tmp_path, flowgen_database, db)
    try:
        yield made
    finally:
        made.end()
