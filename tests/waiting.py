"""Await a fact instead of sleeping: poll it until it holds or its time is over."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def eventually(fact: Callable[[], T], timeout: float = 10, *, every: float = 0.02) -> T:
    """The first truthy value of `fact`; an AssertionError with the last value, or the last error, after `timeout` s."""
    end = time.monotonic() + timeout
    never = threading.Event()
    while True:
        error: Exception | None = None
        value: T | None = None
        try:
            value = fact()
        except Exception as raised:
            error = raised
        if value:
            return value
        if time.monotonic() >= end:
            raise AssertionError(f"not within {timeout} s: last seen {error or value!r}") from error
        never.wait(every)
