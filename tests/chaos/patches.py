"""The seeded bugs inside the processes: each takes away one thing that the engine's code does.

Applied by `inside.begin` in workers and clients that are told so by `CHAOS_BUG`, and nowhere else. What is SQL stands
in `bugs.py`, which also says what each bug is.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import psycopg

from flowgen.client.sync import Client
from flowgen.core import sagas
from flowgen.core.entries import Entry, EntryKind
from flowgen.core.history import CommandState
from flowgen.core.sagas import Ledger
from flowgen.errors import DatabaseError
from flowgen.postgres import claims, database, schedules, troubles, workers
from flowgen.postgres.database import Begin, Commit, Script
from flowgen.worker import committer, registration
from flowgen.worker.claimer import Claimer
from flowgen.worker.committer import Committer
from flowgen.worker.executor import Executor
from flowgen.worker.heartbeat import Heartbeat
from flowgen.worker.janitor import Janitor
from flowgen.worker.transactor import Transactor


def ack_before_commit() -> None:
    """M4: the client is told of a start some time before it is committed."""
    start = Client.start

    def told(self: Client, call: Any, /, **given: Any) -> Any:
        if len(sys.argv) < 2 or given:
            return start(self, call, **given)
        try:
            conn = psycopg.connect(sys.argv[1], connect_timeout=5)
        except psycopg.OperationalError as error:
            raise DatabaseError(str(error), transient=True) from None
        run = start(self, call, conn=conn)

        def commit() -> None:
            try:
                conn.commit()
                conn.close()
            except psycopg.Error:
                pass

        threading.Timer(0.7, commit).start()
        return run

    Client.start = told  # type: ignore[method-assign, assignment]


SKEW = 0.4
"""Seconds by which the clocks of workers are wrong, each way."""


def due_by_own_clock() -> None:
    """M5: the time of a timer is computed from the worker's clock."""
    batch = committer._batch

    def computed(parts: Any) -> Any:
        wrong = timedelta(seconds=SKEW if os.getpid() % 2 else -SKEW)
        for part in parts:
            for entry in part.entries:
                if entry.delay is not None:
                    entry.due_at, entry.delay = datetime.now(UTC) + wrong + entry.delay, None
        return batch(parts)

    committer._batch = computed


def due_anew_on_replay() -> None:
    """M6: a timer begins anew with each replay."""
    note = CommandState.note

    def noted(self: CommandState, entry: Entry, replayed: bool) -> None:
        if replayed and entry.kind == EntryKind.ARMED and entry.due_at is not None and entry.recorded_at is not None:
            entry = attrs.evolve(entry, due_at=datetime.now(UTC) + (entry.due_at - entry.recorded_at))
        note(self, entry, replayed)

    CommandState.note = noted  # type: ignore[method-assign]


def no_sweep() -> None:
    """M7: nobody looks for sessions that are over."""

    def reap(limit: int = 500) -> Iterator[Any]:
        return workers.Reaped((), 0)
        yield

    workers.reap = reap  # type: ignore[assignment]


def no_poll() -> None:
    """M8: what is ready is looked for when somebody tells of it, and never else."""

    async def pause(self: Claimer, seconds: float) -> None:
        if seconds > 0.0 and not self._session.fenced:
            await self._wake.wait()
        self._wake.clear()
        await asyncio.sleep(0)

    async def clean(self: Janitor) -> None:
        if (await self._link.call(workers.reap())).released:
            self._claimer.poke()

    Claimer._pause = pause  # type: ignore[method-assign]
    Janitor.clean = clean  # type: ignore[method-assign]


def two_transactions_for_a_tick() -> None:
    """M10: the due schedules are read in one transaction, and a run of a fresh id is made in the next."""
    tick = schedules.tick

    def apart(next_of: Any, *, limit: int = 100) -> Iterator[Any]:
        op = tick(next_of, limit=limit)
        result: Any = None
        try:
            while True:
                request = op.send(result)
                result = [] if isinstance(request, Begin | Commit) else (yield request)
        except StopIteration as stop:
            return stop.value

    schedules.tick = apart  # type: ignore[assignment]
    schedules.tick_run_id = lambda *_: uuid.uuid4()


def wake_after_commit() -> None:
    """M11: the parent is told by a transaction of its own, after the one that ends the child (see `bugs.py`)."""
    tell = Committer._tell

    async def told(self: Committer, landed: Any) -> None:
        ended = [
            part.run.run_id for parts, _, _ in landed for part in parts if part.update and part.update.notify_parent
        ]
        if ended:
            await asyncio.sleep(0.1)
            names = ", ".join(f"'{run}'" for run in ended)
            await self._link.call(_script(f"SELECT chaos.tell(ARRAY[{names}]::uuid[])"))
        await tell(self, landed)

    Committer._tell = told  # type: ignore[method-assign]


def _script(text: str) -> Iterator[Any]:
    yield Script(text)


def no_reading_back() -> None:
    """M12: a Transaction whose commit was not answered is taken for one that did not happen."""

    async def landed(self: Transactor, run: Any, entry: Entry) -> bool:
        run.next_index = entry.index + 1
        return False

    Transactor._landed = landed  # type: ignore[method-assign]


def trouble_is_the_functions() -> None:
    """M13: what the database could not do is stored as the failure of the step."""

    async def run(self: Transactor, conn: Any, is_async: bool, op: Any) -> Any:
        if is_async:
            return await database.run_async(conn, op(), self._schema)
        return await self._executor.in_thread(lambda: database.run(conn, op(), self._schema))

    troubles.trouble = lambda conn, error: None
    troubles.misuse = lambda conn: None
    Transactor._run = run  # type: ignore[method-assign]


def heartbeat_waits_for_steps() -> None:
    """M14: the heartbeat shares the thread of the steps, and beats when none is at work."""
    busy: list[object] = []
    call, beat = Executor._call, Heartbeat._beat
    pause = threading.Event()

    @contextmanager
    def at_work() -> Iterator[None]:
        busy.append(None)
        try:
            yield
        finally:
            busy.pop()

    def called(self: Executor, running: Any) -> Any:
        with at_work():
            return call(self, running)

    def beaten(self: Heartbeat, conn: Any) -> None:
        while busy and not self._stop.is_set():
            pause.wait(0.005)
        beat(self, conn)

    Executor._call = called  # type: ignore[method-assign]
    Heartbeat._beat = beaten  # type: ignore[method-assign]


def named_by_host() -> None:
    """M17: a worker's session is known by the name of its machine."""
    text = database.Schema.text

    def shared(self: database.Schema, name: str) -> bytes:
        found = text(self, name)
        if name == "register" and b"ON CONFLICT" not in found:
            found = found.replace(
                b"RETURNING",
                b"ON CONFLICT (worker_id) DO UPDATE SET lease_until = excluded.lease_until, dead = false,"
                b" quiet = false, released = false RETURNING",
            )
        return found

    database.Schema.text = shared  # type: ignore[method-assign]
    registration.uuid4 = lambda: uuid.uuid5(uuid.NAMESPACE_DNS, socket.gethostname())  # type: ignore[attr-defined]


def sweep_takes_its_own() -> None:
    """M18: the sweep takes runs that its own worker has just begun for lost ones."""
    clean = Janitor.clean

    async def cleaned(self: Janitor) -> None:
        await clean(self)
        await self._link.call(claims.release(self._session.current))
        self._claimer.poke()

    Janitor.clean = cleaned  # type: ignore[method-assign]


def earliest_first() -> None:
    """M20: what succeeded is undone in its own order."""

    def earliest(self: Ledger, within: Any) -> Any:
        standing = (each for each in self._items if not each.begun and sagas._is_inside(each.leaf, within))
        return min(standing, key=lambda each: each.entry.index, default=None)

    Ledger._latest = earliest  # type: ignore[method-assign]


def nothing() -> None:
    """The bug is in the database."""


PATCHES: dict[str, Callable[[], None]] = {
    "M1": nothing, "M2": nothing, "M3": nothing, "M4": ack_before_commit, "M5": due_by_own_clock,
    "M6": due_anew_on_replay, "M7": no_sweep, "M8": no_poll, "M9": nothing, "M10": two_transactions_for_a_tick,
    "M11": wake_after_commit, "M12": no_reading_back, "M13": trouble_is_the_functions, "M14": heartbeat_waits_for_steps,
    "M16": nothing, "M17": named_by_host, "M18": sweep_takes_its_own,
    "M19": nothing, "M20": earliest_first,
}  # fmt: skip
