"""Keeps the lease, on a thread and a connection of its own, so that nothing that blocks the event loop can lose it.

It also listens: a notification pokes the claimer. When it cannot renew the lease in time it stops trusting it on the
monotonic clock, with a margin, before the database gives the runs away.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

from flowgen.core.settings import Settings
from flowgen.errors import DatabaseError, FlowgenError, LeaseLost
from flowgen.failpoints import ARMED, failpoint
from flowgen.postgres import answers, database, hearing, notifications, workers
from flowgen.postgres.rows import Session
from flowgen.worker.clock import monotonic
from flowgen.worker.link import backoff

__all__ = ["Heartbeat"]

_MARGIN = 0.2
"""Share of the lease before its end at which it is not trusted any more."""

_YIELD = 0.001
"""Seconds for which this thread leaves the interpreter to the loop that it has just poked."""


class Heartbeat:
    """One thread. What it is given to call is called on it, and must hand over to the event loop.

    `no_room` is called when the server has no connection left for it.
    """

    def __init__(
        self,
        url: str,
        schema: database.Schema,
        settings: Settings,
        *,
        session: Callable[[], Session | None],
        lost: Callable[[Session], None],
        beaten: Callable[[datetime], None],
        notified: Callable[[bool], None],
        no_room: Callable[[], None],
    ) -> None:
        self._url = url
        self._schema = schema
        self._settings = settings
        self._session = session
        self._lost = lost
        self._beaten = beaten
        self._notified = notified
        self._no_room = no_room
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="flowgen-heartbeat", daemon=True)
        self._trusted_until = monotonic() + self._trust
        self._away = False
        """The database has not answered since the last beat."""
        self.refused = False
        """The server has had no connection for it since the last beat."""
        self._held_up = False
        """This thread could not go on for long since the last beat: something held the whole process up."""

    @property
    def _trust(self) -> float:
        return self._settings.lease.total_seconds() * (1 - _MARGIN)

    def trusted(self) -> bool:
        """Whether the lease holds, as far as can be known without asking. May be called from any thread."""
        return monotonic() <= self._trusted_until

    def start(self) -> None:
        self._thread.start()

    def registered(self, began: float) -> None:
        """A new session was asked for at `began`: its lease is a new one, whatever became of the last."""
        self._trusted_until = began + self._trust
        self._away = self._held_up = False

    def excuse(self) -> workers.Excuse:
        """Why a lease that was lost could not be renewed by a process that lives."""
        return "outage" if self._away and not self._held_up else "stall"

    def stop(self) -> None:
        """Beat no more."""
        self._stop.set()

    def join(self) -> None:
        self._thread.join(timeout=5)

    def _serve(self) -> None:
        conn: Any = None
        failures = 0
        while not self._stop.is_set():
            try:
                if conn is None:
                    conn = self._connected()
                    if not self._settings.pooler:
                        with self._awaited(conn):
                            database.run(conn, notifications.listen(), self._schema)
                self._beat(conn)
                failures = 0
                self._listen(conn)
            except FlowgenError as error:
                self._away = True
                transient = isinstance(error, DatabaseError) and error.transient
                self.refused = isinstance(error, DatabaseError) and error.sqlstate == database.NO_ROOM
                if self.refused:
                    self._no_room()
                if conn is not None:
                    conn.close()
                    conn = None
                failures += 1
                if not transient:
                    failures += 5
                self._pause(backoff(failures))
        if conn is not None:
            conn.close()

    def _connected(self) -> Any:
        return database.connect(
            self._url,
            application_name="flowgen heartbeat",
            pooler=self._settings.pooler,
            connect_timeout=max(2, min(10, int(self._trusted_until - monotonic()))),
        )

    def _awaited(self, conn: Any) -> answers.Awaited:
        """An answer is waited for until the next beat is due, and not longer than the lease is trusted."""
        left = self._trusted_until - monotonic()
        beat = max(1.0, self._settings.heartbeat.total_seconds())
        return answers.awaited(conn, self._url, seconds=min(beat, max(left, 0.5)))

    def _pause(self, seconds: float) -> None:
        """Before the next try, until a beat is due at the latest; a lease that ends meanwhile is given up in time."""
        self._doubt()
        until = monotonic() + min(seconds, self._settings.heartbeat.total_seconds())
        trusted = self._trusted_until
        if monotonic() <= trusted < until:
            self._rest(trusted - monotonic() + 0.001)
            self._doubt()
        self._rest(max(0.0, until - monotonic()))

    def _rest(self, seconds: float) -> None:
        began = monotonic()
        self._stop.wait(seconds)
        self._woke(began + seconds)

    def _woke(self, expected: float) -> None:
        if monotonic() - expected > self._trust / 2:
            self._held_up = True

    def _beat(self, conn: Any) -> None:
        session = self._session()
        if session is None:
            self._stop.wait(0.05)
            return
        if ARMED:
            failpoint("heartbeat.before")
        began = monotonic()
        try:
            with self._awaited(conn):
                beat = database.run(conn, workers.heartbeat(session, self._settings.lease), self._schema)
        except LeaseLost:
            beat = None
        if monotonic() - began > self._trust / 2:
            self._away = True
        if beat is None:
            self._lost(session)
            return
        if ARMED:
            failpoint("heartbeat.after")
        self._trusted_until = began + self._trust
        self._away = self._held_up = self.refused = False
        self._beaten(beat.now)

    def _listen(self, conn: Any) -> None:
        """Until the next beat is due; a notification is told at once."""
        until = monotonic() + self._settings.heartbeat.total_seconds()
        while not self._stop.is_set():
            left = until - monotonic()
            if left <= 0:
                return
            rest = min(left, 0.1)
            if self._settings.pooler:
                self._rest(rest)
                continue
            began = monotonic()
            heard = hearing.heard(conn, rest)
            self._woke(began + rest)
            if heard:
                self._notified(notifications.EVENTS in heard)
                self._stop.wait(_YIELD)

    def _doubt(self) -> None:
        """The lease could not be renewed: when its time is nearly over, act as if it were lost."""
        session = self._session()
        if session is not None and monotonic() > self._trusted_until:
            self._lost(session)
