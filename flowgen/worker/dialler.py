"""Connections for the functions of Transactions: opens them, keeps those that are free, and looks after statements.

They prepare nothing: what a connection keeps is discarded between two functions. When the server has no connection
left, one of the worker's own is given up for the function, or the function waits for one. The invariant: what nobody
here uses is closed soon, so that workers which wait elsewhere get their turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from math import inf
from typing import Any

from flowgen.errors import DatabaseError
from flowgen.postgres import answers, database
from flowgen.worker.clock import monotonic
from flowgen.worker.executor import Executor
from flowgen.worker.link import Link, backoff

__all__ = ["Dialler", "closed"]

KEPT = 5.0
"""Seconds between two looks at what nobody used meanwhile, which is then closed."""
KEPT_FROM_OTHERS = 0.5
"""The same while the server has too few connections."""
LOOKS = 12
"""Looks after which a link that nobody used is closed."""
_CROWDED = 60.0
"""Seconds, after it had no connection left, for which the server is taken to have too few; it is not said again."""

_log = logging.getLogger("flowgen.worker")


class Dialler:
    """Connections to one database."""

    def __init__(self, url: str, executor: Executor, links: Sequence[Link], *, pooler: bool) -> None:
        """`links` are the worker's own connections."""
        self._url = url
        self._links = links
        self._executor = executor
        self._pooler = pooler
        self._free: dict[bool, list[Any]] = {False: [], True: []}
        self._unused = {False: 0, True: 0}
        """The fewest that were free at a time since the last look: the last to come back is the first to be used."""
        self.waiting = 0
        """Transactions that wait, as the server has had no connection for them."""
        self._came_back = asyncio.Event()
        self._crowded_until = -inf

    async def connect(self, is_async: bool) -> Any:
        """A connection, not in autocommit. Waits while the server has none left. Raises DatabaseError."""
        refused = 0
        try:
            while True:
                conn = self._kept(is_async)
                if conn is not None:
                    return conn
                try:
                    return await self._dialled(is_async)
                except DatabaseError as error:
                    if error.sqlstate != database.NO_ROOM:
                        raise
                    refused += 1
                    if refused == 1:
                        self.waiting += 1
                    self._crowded(error)
                await self._until_one_is_back(is_async, backoff(refused))
        finally:
            self.waiting -= bool(refused)

    def keep(self, conn: Any, is_async: bool) -> None:
        """For the next function, which finds it as good as new."""
        self._free[is_async].append(conn)
        self._came_back.set()

    async def serve(self) -> None:
        """Close what nobody uses, until cancelled."""
        while True:
            await asyncio.sleep(KEPT if monotonic() > self._crowded_until else KEPT_FROM_OTHERS)
            for is_async, free in self._free.items():
                unused = free[: self._unused[is_async]]
                del free[: len(unused)]
                self._unused[is_async] = len(free)
                for conn in unused:
                    await closed(conn, is_async)
            for link in self._links:
                await link.rest(LOOKS)

    async def close(self) -> None:
        """Close what is free."""
        for is_async, free in self._free.items():
            while free:
                await closed(free.pop(), is_async)

    def _kept(self, is_async: bool) -> Any:
        free = self._free[is_async]
        conn = None
        while free and (conn is None or conn.closed):
            conn = free.pop()
        self._unused[is_async] = min(self._unused[is_async], len(free))
        return None if conn is None or conn.closed else conn

    async def _until_one_is_back(self, is_async: bool, seconds: float) -> None:
        if not self._free[is_async]:
            self._came_back.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._came_back.wait()
            except TimeoutError:
                pass

    def _crowded(self, error: DatabaseError) -> None:
        now = monotonic()
        said, self._crowded_until = now <= self._crowded_until, now + _CROWDED
        if not said:
            _log.warning(
                "the server has no connection left for a Transaction (%s): it waits until one comes free; "
                "raise max_connections, or run fewer workers",
                error,
            )

    async def _dialled(self, is_async: bool) -> Any:
        try:
            return await self._dial(is_async)
        except DatabaseError as error:
            if error.sqlstate != database.NO_ROOM or not await self.make_room():
                raise
            return await self._dial(is_async)

    async def make_room(self) -> bool:
        """Give a connection of this worker up, for one that it needs more; whether there was one."""
        for is_async, free in self._free.items():
            if free:
                await closed(free.pop(0), is_async)
                return True
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


async def closed(conn: Any, is_async: bool) -> None:
    """Close it on this thread: a function that still uses a sync one must find it closed, whatever it does next."""
    closing = conn.close()
    if is_async:
        await closing
