"""Notices that a server will never answer, so that no operation of ours waits for ever on a dead connection.

    with awaited(conn, url):          # statements, each of which waits for its answer
        run(conn, op, schema)

TCP notices a peer that is gone, but not one that keeps the connection and says nothing: a proxy, a server that stands
still. So a statement that has no answer for `SECONDS` is asked about over another connection. While the server says
that it is at work on it, for a lock or a slow disk, it is waited for; otherwise the connection is shut down, and an
operation raises a DatabaseError that is transient: what came of it is unknown. The invariant: an answer that would come
is waited for. Reads no clock: it counts its own looks, so that a process which stood still for a while drops nothing.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Any

import attrs
import psycopg
from psycopg.pq import TransactionStatus

from flowgen.errors import DatabaseError
from flowgen.postgres.database import Op, Schema, Statement, connect, run

__all__ = ["SECONDS", "Awaited", "awaited"]

SECONDS = 8.0
"""Without an answer the server is asked whether it is at work on it."""
UNASKED = 60.0
"""Behind a pooler nobody can be asked: so long is waited for an answer."""
LOOK = 0.25
"""Seconds between two looks at what is waited for."""
_CONNECT = 3
_PROBE = 4.0
_REST = 20
"""Looks that find nothing, after which the thread ends."""


def awaited(conn: Any, url: str, *, pooler: bool = False, seconds: float | None = None) -> Awaited:
    """A block in which statements run on `conn`, a connection to `url`, sync or async.

    With `seconds` it is dropped when it waits for an answer for so long, whatever the server does.
    """
    asked = seconds is None and not pooler
    limit = seconds if seconds is not None else UNASKED if pooler else SECONDS
    return Awaited(conn, url if asked else None, limit, limit)


@attrs.define(eq=False)
class Awaited:
    """A connection that may be waiting for an answer."""

    conn: Any
    url: str | None
    """Where the server can be asked; None: it is not."""
    seconds: float
    left: float
    dropped: bool = False

    def __enter__(self) -> None:
        _watch.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _watch.remove(self)
        if self.dropped and isinstance(error, DatabaseError):
            raise DatabaseError(
                f"the server did not answer within {self.seconds:g} s, and is not at work on it: the connection was "
                "dropped",
                transient=True,
            ) from error

    def drop(self) -> None:
        """Shut the connection down: who waits on it gets an error now."""
        self.dropped = True
        try:
            with socket.socket(fileno=os.dup(self.conn.fileno())) as found:
                found.shutdown(socket.SHUT_RDWR)
        except (OSError, psycopg.Error):  # it has ended by itself
            pass


class _Watch:
    """One thread for all operations of this process; it is there while there are any."""

    def __init__(self) -> None:
        self._waiting: dict[int, Awaited] = {}
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._never = threading.Event()

    def add(self, waiting: Awaited) -> None:
        self._waiting[id(waiting)] = waiting
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._start()

    def _start(self) -> None:
        thread = threading.Thread(target=self._serve, name="flowgen-answers", daemon=True)
        with suppress(RuntimeError):  # no thread can be had: the next statement asks again
            thread.start()
            self._thread = thread

    def remove(self, waiting: Awaited) -> None:
        self._waiting.pop(id(waiting), None)

    def forget(self) -> None:
        """In a process that was forked: its thread stayed behind, and the connections are not its own."""
        self.__init__()  # type: ignore[misc]

    def _serve(self) -> None:
        while True:
            idle = 0
            while idle < _REST:
                self._never.wait(LOOK)
                idle = 0 if self._waiting else idle + 1
                self._look()
            self._thread = None
            if not self._waiting or not self._taken(threading.current_thread()):
                return

    def _taken(self, thread: threading.Thread) -> bool:
        """Whether it is this thread that looks from now on: somebody may just have started another."""
        with self._lock:
            self._thread = self._thread or thread
            return self._thread is thread

    def _look(self) -> None:
        late: dict[str | None, list[Awaited]] = defaultdict(list)
        for waiting in list(self._waiting.values()):
            waits = waiting.conn.pgconn.transaction_status == TransactionStatus.ACTIVE
            waiting.left = waiting.left - LOOK if waits else waiting.seconds
            if waiting.left <= 0:
                late[waiting.url].append(waiting)
        for url, some in late.items():
            working = set[int]() if url is None else _asked(url, [_pid(each) for each in some])
            for each in some:
                if id(each) not in self._waiting:
                    continue
                if working is None or _pid(each) in working:
                    each.left = SECONDS / 2
                else:
                    each.drop()


def _pid(waiting: Awaited) -> int:
    try:
        return int(waiting.conn.info.backend_pid)
    except psycopg.Error:
        return 0


def _asked(url: str, pids: list[int]) -> set[int] | None:
    """Those of the server's processes that are at work; None when that cannot be said. Takes a few seconds at most."""
    found: list[set[int] | None] = []
    prober = threading.Thread(target=lambda: found.append(_probe(url, pids)), name="flowgen-probe", daemon=True)
    try:
        prober.start()
    except RuntimeError:  # no thread can be had
        return None
    prober.join(_PROBE)
    return found[0] if found else set()


def _probe(url: str, pids: list[int]) -> set[int] | None:
    try:
        conn = connect(url, application_name="flowgen probe", connect_timeout=_CONNECT)
        try:
            own, working = run(conn, _at_work(pids), Schema())
            return working if own == conn.info.backend_pid else None  # another process: a pooler is in between
        finally:
            conn.close()
    except DatabaseError as error:
        return None if (error.sqlstate or "").startswith("53") else set()


def _at_work(pids: Iterable[int]) -> Op[tuple[int, set[int]]]:
    rows = yield Statement("at_work", {"pids": list(pids), "recent": timedelta(seconds=SECONDS / 2)})
    own, working = rows[0]
    return own, set(working or ())


_watch = _Watch()
os.register_at_fork(after_in_child=_watch.forget)
