"""Connections of a client: a pool of its own, or one that the caller lends.

It opens, checks and closes; it runs nothing by itself. The invariants: a pooled connection is in autocommit, so what an
operation writes is committed when it returns; on a lent one nothing begins, commits or rolls back, so that it is the
caller's transaction which decides, whatever row or cursor factory the caller uses.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, cast

import attrs
import psycopg
from psycopg import rows
from psycopg.pq import Format, TransactionStatus
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from flowgen.errors import DatabaseError, DefinitionError
from flowgen.postgres import arrays
from flowgen.postgres.answers import awaited
from flowgen.postgres.database import connect, connect_async, translate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

__all__ = ["AsyncPool", "Pool", "lent", "lent_async"]

_IDLE_SECONDS = 300


class _Dialled(psycopg.Connection[Any]):
    """Lets a pool make its connections as everybody else here does; what it is given by `kwargs` goes to `connect`."""

    @classmethod
    def connect(cls, conninfo: str = "", **options: Any) -> psycopg.Connection[Any]:  # type: ignore[override]
        return connect(conninfo, **options)


class _DialledAsync(psycopg.AsyncConnection[Any]):
    @classmethod
    async def connect(  # type: ignore[override]
        cls, conninfo: str = "", **options: Any
    ) -> psycopg.AsyncConnection[Any]:
        return await connect_async(conninfo, **options)


@attrs.define(eq=False)
class Pool:
    """A pool of connections in autocommit."""

    _pool: ConnectionPool[psycopg.Connection[Any]]
    _url: str = attrs.field(repr=False)
    _pooler: bool

    @classmethod
    def open(cls, url: str, *, size: int, timeout: float, pooler: bool) -> Pool:
        """Connections are made when they are needed; one that is wanted waits for at most `timeout` seconds."""
        pool: ConnectionPool[psycopg.Connection[Any]] = ConnectionPool(
            url,
            connection_class=_Dialled,
            kwargs={"application_name": "flowgen client", "pooler": pooler},
            min_size=0,
            max_size=size,
            timeout=timeout,
            max_idle=_IDLE_SECONDS,
            name="flowgen client",
            open=True,
        )
        return cls(pool, url, pooler)

    def connection(self) -> AbstractContextManager[psycopg.Connection[Any]]:
        """One of them for the length of the block. Raises DatabaseError, and lets other errors through."""
        return self._connection()

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[Any]]:
        try:
            conn = self._pool.getconn()
        except psycopg.Error as error:
            raise translate(error) from None
        try:
            with awaited(conn, self._url, pooler=self._pooler):
                yield conn
        finally:
            self._pool.putconn(conn)

    def discard_broken(self) -> None:
        """After a lost connection: the others may be lost too."""
        self._pool.check()

    def close(self) -> None:
        self._pool.close()


@attrs.define(eq=False)
class AsyncPool:
    """A pool of async connections in autocommit; the same as `Pool`."""

    _pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]]
    _url: str = attrs.field(repr=False)
    _pooler: bool

    @classmethod
    async def open(cls, url: str, *, size: int, timeout: float, pooler: bool) -> AsyncPool:
        pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]] = AsyncConnectionPool(
            url,
            connection_class=_DialledAsync,
            kwargs={"application_name": "flowgen client", "pooler": pooler},
            min_size=0,
            max_size=size,
            timeout=timeout,
            max_idle=_IDLE_SECONDS,
            name="flowgen client",
            open=False,
        )
        await pool.open()
        return cls(pool, url, pooler)

    def connection(self) -> AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]:
        return self._connection()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
        try:
            conn = await self._pool.getconn()
        except psycopg.Error as error:
            raise translate(error) from None
        try:
            with awaited(conn, self._url, pooler=self._pooler):
                yield conn
        finally:
            await self._pool.putconn(conn)

    async def discard_broken(self) -> None:
        await self._pool.check()

    async def close(self) -> None:
        await self._pool.close()


@attrs.frozen
class _Lent:
    """What the runner needs of a connection, with rows and cursors that do not depend on the caller's factories."""

    _conn: psycopg.Connection[Any]

    def cursor(self, *, binary: bool) -> psycopg.Cursor[Any]:
        cursor = psycopg.Cursor(self._conn, row_factory=rows.tuple_row)
        cursor.format = Format.BINARY if binary else Format.TEXT
        return cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)


@attrs.frozen
class _LentAsync:
    _conn: psycopg.AsyncConnection[Any]

    def cursor(self, *, binary: bool) -> psycopg.AsyncCursor[Any]:
        cursor = psycopg.AsyncCursor(self._conn, row_factory=rows.tuple_row)
        cursor.format = Format.BINARY if binary else Format.TEXT
        return cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)


def lent(conn: object) -> psycopg.Connection[Any]:
    """The caller's connection, ready for an operation. Raises DefinitionError or DatabaseError when it is unusable."""
    if not isinstance(conn, psycopg.Connection):
        raise DefinitionError(_wrong(conn, "psycopg.Connection"))
    _usable(conn)
    return cast("psycopg.Connection[Any]", _Lent(conn))


def lent_async(conn: object) -> psycopg.AsyncConnection[Any]:
    """The same for an async connection."""
    if not isinstance(conn, psycopg.AsyncConnection):
        raise DefinitionError(_wrong(conn, "psycopg.AsyncConnection"))
    _usable(conn)
    return cast("psycopg.AsyncConnection[Any]", _LentAsync(conn))


def _wrong(conn: object, wanted: str) -> str:
    kind = f"{type(conn).__module__.partition('.')[0]}.{type(conn).__qualname__}"
    return f"conn= takes a {wanted}, not a {kind}"


def _usable(conn: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    if conn.closed:
        raise DatabaseError("the connection given as conn= is closed")
    if conn.info.transaction_status == TransactionStatus.INERROR:
        raise DatabaseError(
            "the transaction on the connection given as conn= is aborted by an earlier error: roll it back first; "
            "nothing was started",
            sqlstate="25P02",
        )
    if conn.info.encoding != "utf-8":
        raise DatabaseError(
            f"the connection given as conn= has the client encoding {conn.info.encoding}: "
            "set client_encoding to UTF8, as ids, names and values are UTF-8"
        )
    arrays.register(conn)
