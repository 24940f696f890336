"""A store for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.postgres.store import Store


@pytest.fixture
def store(flowgen_database: str) -> Iterator[Store]:
    store = Store.open(flowgen_database)
    yield store
    store.close()
