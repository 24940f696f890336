"""Closes what a test has opened: a handler that yields in `finally` must not be left to the garbage collector."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flowgen.testing.bench import Bench

from .running import opened


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while opened:
        each = opened.pop()
        (each.execution if isinstance(each, Bench) else each).close()
