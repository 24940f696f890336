"""Connections for the functions of Transactions: opens them, and looks after the statements that wait on them.

It keeps none. They prepare nothing: what a connection keeps is discarded between two functions.
"""

from __future__ import annotations

from math import inf
from typing import Any

from flowgen.postgres import answers, database
from flowgen.worker.executor import Executor

__all__ = ["Dialler"]


class Dialler:
    """Connections to one database."""

    def __init__(self, url: str, executor: Executor, *, pooler: bool) -> None:
        self._url = url
        self._executor = executor
        self._pooler = pooler

    async def connect(self, is_async: bool) -> Any:
        """A new connection, not in autocommit. Raises DatabaseError."""
        name = "flowgen transaction"
        if is_async:
            return await database.connect_async(self._url, application_name=name, autocommit=False, pooler=True)
        return await self._executor.in_thread(
            lambda: database.connect(self._url, application_name=name, autocommit=False, pooler=True)
        )

    def awaited(self, conn: Any, *, ours: bool) -> answers.Awaited:
        """A block in which statements wait for their answers, `ours` or the function's."""
        # Behind a pooler nobody can say how long a function's own statement may take.
        seconds = None if ours or not self._pooler else inf
        return answers.awaited(conn, self._url, pooler=self._pooler, seconds=seconds)
