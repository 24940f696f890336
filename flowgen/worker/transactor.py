"""Calls the functions of Transactions: the user's writes and the outcome of the command are one commit.

A sync function gets a psycopg Connection on a thread, an async one an AsyncConnection. Only the last statement of the
transaction checks the fence. A commit whose answer was lost is read back; a connection that breaks is the engine's
trouble and never an attempt of the user's. While the outcome is on its way no other part of the run is.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import attrs

from flowgen.core.context import entered
from flowgen.core.decision import Returned, TimedOut
from flowgen.core.entries import Entry, EntryKind, OutcomeKind
from flowgen.core.failures import failure_from_json
from flowgen.core.functions import Flavour
from flowgen.core.sealing import Seal
from flowgen.errors import CodecError, DatabaseError, FlowgenError, LeaseLost
from flowgen.postgres import database, transactions, troubles
from flowgen.postgres import entries as entries_room
from flowgen.worker.dialler import Dialler, closed
from flowgen.worker.executor import Executor, Lane, RunningCall
from flowgen.worker.forks import end_child
from flowgen.worker.link import Link, backoff
from flowgen.worker.live import LiveRun, Part
from flowgen.worker.sessions import SessionHolder

__all__ = ["Transactor"]

T = TypeVar("T")

CONNECTIONS = 8
"""Transactions of one worker at a time, each on a connection of its own."""
TRIES = 20
"""Calls that a broken connection or a refused commit may cost before the trouble counts as the function's own."""

_LANE = 0.0005
"""Seconds between two looks at whether the run's last part has landed."""


class _Broken(Exception):
    """The connection broke or the server ended the transaction: nothing of it was written."""

    def __init__(self, error: DatabaseError, *, called: bool = True) -> None:
        super().__init__(str(error))
        self.error = error
        self.called = called
        """Whether the function may have been called."""


class Transactor:
    """Runs up to `CONNECTIONS` Transactions at a time."""

    def __init__(
        self,
        dialler: Dialler,
        schema: database.Schema,
        session: SessionHolder,
        executor: Executor,
        link: Link,
        committed: Callable[[Sequence[tuple[Part, int | None]], datetime], None],
        freed: Callable[[LiveRun], None],
        idle: timedelta = timedelta(minutes=1),
        seal: Seal | None = None,
    ) -> None:
        """After `idle` without a statement the server ends a transaction: its process may have been stopped.

        `committed` is told of outcomes that are durable.

        `freed` is told of a run whose outcome was not committed: what came of it meanwhile can be.
        """
        self._dialler = dialler
        self._schema = schema
        self._session = session
        self._executor = executor
        self._link = link
        self._committed = committed
        self._freed = freed
        self._idle_timeout = idle
        self._seal = seal
        self._pid = os.getpid()
        self._lane = Lane(CONNECTIONS)

    def submit(self, run: LiveRun, running: RunningCall) -> None:
        """Call the function of a Transaction and commit its outcome with its writes."""
        self._executor.submit_to(self._lane, running, lambda running: self._transact(run, running))

    def short(self) -> bool:
        """Whether connections are waited for, and another Transaction would only wait behind those that are here."""
        return self._dialler.waiting > 0 and self._lane.running >= self._lane.size

    async def _transact(self, run: LiveRun, running: RunningCall) -> None:
        failures = calls = 0
        while not running.over and not run.gone:
            try:
                await self._once(run, running)
                return
            except _Broken as broken:
                failures += 1
                calls += broken.called
                if calls > TRIES:
                    raise broken.error from None
                self._session.trouble(broken.error, failures)
                await asyncio.sleep(backoff(failures))

    async def _once(self, run: LiveRun, running: RunningCall) -> None:
        is_async = running.call.command.function.flavour is Flavour.ASYNC
        conn = await self._connection(is_async)
        token = secrets.token_hex(8)
        kept = False
        factories = conn.row_factory, conn.cursor_factory
        try:
            # What is prepared is gone with each reset, and the connection would go on believing in it.
            conn.prepare_threshold = None
            await self._run(conn, is_async, lambda: transactions.begin(token, idle_timeout=self._idle_timeout))
            value = await self._called(conn, is_async, running)
            # The function may have asked for rows of another shape, for itself.
            conn.row_factory, conn.cursor_factory = factories
            finishing = asyncio.create_task(self._finish(run, running, conn, is_async, token, value))
            try:
                kept = await asyncio.shield(finishing)
            except asyncio.CancelledError:
                # An abort must not cut the commit in half, nor take its connection away.
                await asyncio.wait([finishing])
                kept = not finishing.cancelled() and finishing.exception() is None and finishing.result()
                raise
        finally:
            if kept and await self._reset(conn, is_async):
                self._dialler.keep(conn, is_async)
            else:
                await closed(conn, is_async)

    async def _called(self, conn: Any, is_async: bool, running: RunningCall) -> Any:
        args, kwargs = running.arguments()
        fn = running.call.command.function.fn

        def call() -> Any:
            with entered(running.context):
                return fn(conn, *args, **kwargs)

        try:
            with self._dialler.awaited(conn, ours=False):
                try:
                    value = await (fn(conn, *args, **kwargs) if is_async else self._executor.in_thread(call))
                finally:
                    end_child(self._pid)
        except Exception as error:
            cause = troubles.trouble(conn, error)
            if cause is None:
                raise
            misuse = troubles.misuse(conn) if conn.closed else None
            if misuse is not None:
                raise misuse from error
            raise _Broken(cause) from error
        misuse = troubles.misuse(conn)
        if misuse is not None:
            raise misuse
        return value

    async def _finish(
        self, run: LiveRun, running: RunningCall, conn: Any, is_async: bool, token: str, value: Any
    ) -> bool:
        """Commit the outcome with the writes; whether the connection can be used again."""
        run.apart += 1
        while run.behind and not run.gone:
            self._freed(run)
            await asyncio.sleep(_LANE)
        run.apart -= 1
        key = running.call.key
        entry = None if run.gone or running.over else run.execution.settle(key, Returned(value))
        if entry is None:
            return False
        if entry.kind != EntryKind.OUTCOME or entry.status != OutcomeKind.VALUE:
            run.execution.retract(key)
            raise _refusal(entry)
        entry = attrs.evolve(entry, index=run.next_index)
        try:
            stored = entry if self._seal is None else self._seal.close_entry(entry)
        except CodecError:
            run.execution.retract(key)
            raise
        run.sending = True
        try:
            recorded = await self._commit(run, conn, is_async, token, stored)
        except BaseException:
            run.sending = False
            run.execution.retract(key)
            if running.over and running.call.timeout is not None and running.signal.reason == "timeout":
                # Its time was over while the outcome was on its way; now that there is none, that is what it came to.
                running.settled(running, TimedOut(running.call.timeout))
            self._freed(run)
            raise
        if recorded is None:
            return False
        run.next_index += 1
        running.over = True
        run.calls.pop(key, None)
        recorded.value = entry.value
        self._committed([(Part(run, [recorded]), None)], self._session.clock.now())
        return True

    async def _commit(self, run: LiveRun, conn: Any, is_async: bool, token: str, entry: Entry) -> Entry | None:
        """The entry as it was recorded; None when the lease is over."""
        session = self._session.current
        try:
            now = await self._run(conn, is_async, lambda: transactions.finish(session, token, run.run_id, [entry]))
        except LeaseLost as refused:
            if self._session.lost(session):
                return None
            raise _Broken(DatabaseError(str(refused), transient=True)) from refused
        except _Broken as broken:
            if not await self._landed(run, entry):
                raise
            self._session.trouble(broken.error, 1)
            now = self._session.clock.now()
        return attrs.evolve(entry, recorded_at=now)

    async def _landed(self, run: LiveRun, entry: Entry) -> bool:
        """Whether a commit whose answer was lost is there. What is still under way is refused from now on."""
        failures = 0
        while True:
            try:
                if await self._session.renew(self._link) is None:
                    return False
                stored = await self._link.call(entries_room.read_back([run.run_id]))
                return stored[run.run_id].last_index >= entry.index
            except DatabaseError as error:
                if not error.transient:
                    raise
                failures += 1
                await asyncio.sleep(backoff(failures))

    # connections

    async def _connection(self, is_async: bool) -> Any:
        try:
            return await self._dialler.connect(is_async)
        except DatabaseError as error:
            if not error.transient:
                raise
            raise _Broken(error, called=False) from error

    async def _run(self, conn: Any, is_async: bool, op: Callable[[], database.Op[T]]) -> T:
        try:
            with self._dialler.awaited(conn, ours=True):
                if is_async:
                    return await database.run_async(conn, op(), self._schema)
                return await self._executor.in_thread(lambda: database.run(conn, op(), self._schema))
        except DatabaseError as error:
            if error.transient:
                raise _Broken(error) from error
            raise

    async def _reset(self, conn: Any, is_async: bool) -> bool:
        """Make the connection as good as new for the next function; whether that went well."""

        def reset() -> None:
            conn.autocommit = True
            database.run(conn, transactions.reset(), self._schema)
            conn.autocommit = False

        try:
            with self._dialler.awaited(conn, ours=True):
                if is_async:
                    await conn.set_autocommit(True)
                    await database.run_async(conn, transactions.reset(), self._schema)
                    await conn.set_autocommit(False)
                else:
                    await self._executor.in_thread(reset)
        except Exception:  # whatever broke it, the outcome is committed
            return False
        return True


def _refusal(entry: Entry) -> FlowgenError:
    """What the codec said of a result that cannot be stored, as the error of the call."""
    return CodecError(failure_from_json(entry.value or "null").message)
