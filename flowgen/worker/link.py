"""A named connection of the worker that comes back by itself: one owner, one operation at a time.

It never repeats an operation: whether that is safe is known to the agent. A broken connection is replaced at the next
use, with a growing pause and jitter, so that a restarted server meets no storm.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any, TypeVar

from flowgen.errors import DatabaseError, FlowgenError
from flowgen.failpoints import ARMED, failpoint
from flowgen.postgres import answers, database
from flowgen.worker.clock import monotonic

__all__ = ["Link", "backoff", "is_local"]

T = TypeVar("T")

_AGAIN = 1.0
"""Seconds, on the average, before the next try after a connection could not be had; the spare does meanwhile."""
_GIVEN_UP = 5.0
"""Seconds for which the spare does, after the connection was given up."""


def backoff(failures: int) -> float:
    """Seconds before the next try after so many failures in a row: up to 2, with jitter."""
    return min(2.0, 0.05 * 2.0 ** min(failures, 6)) * (0.5 + random.random())  # noqa: S311 - spreads load, guards nothing


def is_local(error: Exception) -> bool:
    """Whether no server said this: a value cannot be sent, or an answer cannot be read."""
    if isinstance(error, DatabaseError):
        return not error.transient and error.sqlstate is None
    return not isinstance(error, FlowgenError)


class Link:
    """One connection, opened when it is first needed."""

    def __init__(
        self,
        url: str,
        schema: database.Schema,
        name: str,
        *,
        pooler: bool,
        spare: Link | None = None,
        lasting: bool = True,
    ) -> None:
        """`spare`, while it is open, does for this one when the server has no connection left.

        One that is not `lasting` is closed by `rest` when it was not used for a while.
        """
        self._url = url
        self._spare = spare
        self._lasting = lasting
        self._dial_at = 0.0
        self._schema = schema
        self._name = name
        self._pooler = pooler
        self._conn: Any = None
        self._opened = False
        self._looks = 0
        self._lock = asyncio.Lock()

    async def call(self, op: database.Op[T]) -> T:
        """Run one operation. Raises DatabaseError; after a broken connection the next call opens another."""
        async with self._lock:
            self._looks = 0
            if not self.open:
                spare = self._spare if self._spare is not None and self._spare.open else None
                if spare is not None and monotonic() < self._dial_at:
                    return await spare.call(op)
                await asyncio.sleep(self._dial_at - monotonic())  # whoever else waits for this link, it dials once
                try:
                    await self._dial()
                except DatabaseError:
                    self._dial_at = monotonic() + _AGAIN * (0.5 + random.random())  # noqa: S311
                    if spare is None:
                        raise
                    return await spare.call(op)
            try:
                with answers.awaited(self._conn, self._url, pooler=self._pooler):
                    return await database.run_async(self._conn, op, self._schema)
            except BaseException as error:
                elsewhere = isinstance(error, DatabaseError) and error.sqlstate == database.NO_WRITES
                if elsewhere or not isinstance(error, DatabaseError) or self._conn.broken or self._conn.closed:
                    await self._drop()
                raise

    async def give_up(self) -> bool:
        """Leave the connection to somebody who has none, and use the spare for a while; whether there was one."""
        if self._spare is None or not self.open or self._lock.locked():
            return False
        async with self._lock:
            await self._drop()
        self._dial_at = monotonic() + _GIVEN_UP
        return True

    async def rest(self, looks: int) -> None:
        """Somebody looks whether it is used; one that does not last is closed after more looks in a row than these."""
        self._looks += 1
        if self._looks > looks and not self._lasting and self.open and not self._lock.locked():
            await self.close()

    @property
    def open(self) -> bool:
        """Whether it has a connection, as far as is known."""
        return self._conn is not None and not self._conn.closed

    async def _dial(self) -> None:
        if ARMED and self._opened:
            failpoint("reconnect.before")
        self._conn, self._opened = None, True
        self._conn = await database.connect_async(
            self._url, application_name=f"flowgen {self._name}", pooler=self._pooler
        )

    async def close(self) -> None:
        """Close the connection; the link may be used again."""
        async with self._lock:
            await self._drop()

    async def _drop(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            await conn.close()
