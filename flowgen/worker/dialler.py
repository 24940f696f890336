"""Connections for the functions of Transactions: opens them, and looks after the statements that wait on them.

It keeps none. They prepare nothing: what a connection keeps is discarded between two functions. When the server has no
connection left, one of the worker's own is given up for the function, so that no run waits for what its worker holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

from flowgen.errors import DatabaseError
from flowgen.postgres import answers, database
from flowgen.worker.executor import Executor
from flowgen.worker.link import Link

__all__ = ["Dialler"]

_FULL = "53300"
"""SQLSTATE of a server that has no connection left."""


class Dialler:
    """Connections to one database."""

    def __init__(self, url: str, executor: Executor, links: Sequence[Link], *, pooler: bool) -> None:
        """`links` are the worker's own connections."""
        self._url = url
        self._links = links
        self._executor = executor
        self._pooler = pooler

    async def connect(self, is_async: bool) -> Any:
        """A new connection, not in autocommit. Raises DatabaseError."""
        try:
            return await self._dial(is_async)
        except DatabaseError as error:
            if error.sqlstate != _FULL or not await self._made_room():
                raise
            return await self._dial(is_async)

    async def _made_room(self) -> bool:
        for link in self._links:
            if await link.give_up():
                return True
        return False

    async def _dial(self, is_async: bool) -> Any:
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
