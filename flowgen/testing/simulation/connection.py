"""The connection that a Transaction has to itself: it knows three statements, and its commit may go astray.

What the function writes on it is not simulated: a scripted function stands in the place of the user's. The invariant:
the effect of the function and the outcome of the command are one commit of the store.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from flowgen.core.entries import Entry
from flowgen.postgres.rows import Session

__all__ = ["Connection", "Dialler", "Statements"]

_HEADER = 24
"""Bytes before the only item of an array, as `flowgen.postgres.arrays` writes it."""


class Statements:
    """In the place of a schema: the text of a statement is its name."""

    def text(self, name: str) -> str:
        return name


class Dialler:
    """Opens connections."""

    def __init__(self, finish: Callable[[Session, UUID, Entry], Any]) -> None:
        self._finish = finish
        self._free: list[Connection] = []

    async def connect(self, is_async: bool) -> Connection:
        return self._free.pop() if self._free else Connection(self._finish)

    def keep(self, conn: Connection, is_async: bool) -> None:
        self._free.append(conn)

    def awaited(self, conn: Connection, *, ours: bool) -> Any:
        return nullcontext()


class Connection:
    """Whatever the transactor asks of a sync connection."""

    def __init__(self, finish: Callable[[Session, UUID, Entry], Any]) -> None:
        self._finish = finish
        self.closed = self.broken = False
        self.info = SimpleNamespace(transaction_status=None)
        self.autocommit = False
        self.row_factory = self.cursor_factory = self.prepare_threshold = None

    def pipeline(self) -> Any:
        return nullcontext()

    def commit(self) -> None:
        """The last statement has committed."""

    def close(self) -> None:
        self.closed = True

    def cursor(self, binary: bool) -> Cursor:
        return Cursor(self)

    def execute(self, name: str, params: Any) -> list[tuple[Any, ...]]:
        if name != "transaction_finish":
            return []
        run_id, entry = _entry(params)
        return [(self._finish(Session(params["session"], params["epoch"]), run_id, entry),)]


class Cursor:
    """The rows of one statement."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: list[tuple[Any, ...]] = []

    def execute(self, name: str, params: Any = None) -> Cursor:
        self._rows = self._connection.execute(name, params)
        return self

    @property
    def pgresult(self) -> None:
        """No columns; the one statement that has some is asked for its rows without a look."""

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._rows


def _entry(params: Any) -> tuple[UUID, Entry]:
    """The one entry of the statement that ends a transaction."""
    facts = _int(params["e_facts"]) or 0
    entry = Entry(
        _int(params["e_index"]) or 0,
        facts & 15,
        _text(params["e_key"]) or "",
        _text(params["e_fingerprint"]),
        facts >> 4 & 15,
        _int(params["e_attempt"]),
        _text(params["e_value"]),
        named=bool(facts & 256),
    )
    return UUID(bytes=bytes(params["e_run"][_HEADER:])), entry


def _int(array: bytes) -> int | None:
    return int.from_bytes(array[_HEADER:], "big") if len(array) > _HEADER else None


def _text(array: bytes) -> str | None:
    return array[_HEADER:].decode() if len(array) > _HEADER else None
