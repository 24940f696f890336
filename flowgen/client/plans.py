"""Plans: what a verb of the client does, as a generator of effects that a sync and an async caller carry out.

    Plan[T] = Generator[Effect, Any, T]      Effect = Do(make) | Pause(seconds, bell)

A plan never connects, waits or knows which caller drives it. The invariant: an effect's error is raised at its yield,
so a plan can answer it; a plan that is dropped is closed, so its `finally` runs.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import attrs

from flowgen.errors import DatabaseError
from flowgen.postgres.database import Op

__all__ = ["Bell", "Do", "Effect", "Pause", "Plan", "ask"]

T = TypeVar("T")

_AGAIN = (0.02, 0.1, 0.3, 1.0)
"""Seconds before another try after an error that may pass."""


class Bell(Protocol):
    """Ends a pause early. A `threading.Event` or an `asyncio.Event`."""

    def set(self) -> None: ...


@attrs.frozen
class Do(Generic[T]):
    """Run an operation on a connection; gives its result."""

    make: Callable[[], Op[T]]


@attrs.frozen
class Pause:
    """Wait for so many seconds, or until the bell rings."""

    seconds: float
    bell: Bell | None = None


Effect: TypeAlias = Do[Any] | Pause
Plan: TypeAlias = Generator[Effect, Any, T]


def ask(make: Callable[[], Op[T]], *, again: bool = True) -> Plan[T]:
    """Run an operation. With `again` it is one that may be repeated, and is when the error may pass."""
    for wait in _AGAIN if again else ():
        try:
            value: T = yield Do(make)
            return value
        except DatabaseError as error:
            if not error.transient:
                raise
        yield Pause(wait)
    last: T = yield Do(make)
    return last
