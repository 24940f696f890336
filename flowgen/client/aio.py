"""The client for asyncio: carries out the plans of `operations` with a pool of async connections.

For the tasks of one event loop. The verbs and their meanings are those of `sync.Client`; only who waits differs. The
invariant: what is started with `conn=` exists if and only if the caller's transaction commits; everything else is
committed when the verb returns.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeAlias, TypeVar, overload

import attrs

from flowgen.app import App
from flowgen.app import app as default_app
from flowgen.client import starting
from flowgen.client.audit import AuditItem
from flowgen.client.operations import Operations
from flowgen.client.plans import Do, Effect, Plan
from flowgen.client.queries import RunId, RunQuery
from flowgen.client.runs import AsyncRun, HistoryItem, Page, Reading, Snapshot
from flowgen.client.steps import AsyncSteps
from flowgen.client.sync import POOL_SIZE, POOL_TIMEOUT
from flowgen.client.why import Why
from flowgen.core.commands import Token
from flowgen.core.definitions import Call, Definition
from flowgen.core.durations import Duration
from flowgen.core.settings import Settings
from flowgen.core.trace import Trace
from flowgen.errors import DatabaseError, Failure, FlowgenError
from flowgen.postgres.database import Schema, run_async
from flowgen.postgres.opening import prepared_url
from flowgen.postgres.pools import AsyncPool, lent_async
from flowgen.postgres.rows import RunRow

if TYPE_CHECKING:
    from psycopg import AsyncConnection

__all__ = ["AsyncClient", "connect_async"]

T = TypeVar("T")
P = ParamSpec("P")
RunList: TypeAlias = list[AsyncRun[T]]
History: TypeAlias = list[HistoryItem]
Audit: TypeAlias = list[AuditItem]


def connect_async(
    url: str | None = None, *, app: App | None = None, migrate: bool = False, settings: Settings | None = None
) -> Connecting:
    """An async client: `async with connect_async(url) as client`, or `client = await connect_async(url)`.

    The parameters and errors are those of `connect`; errors come when it is entered or awaited.
    """
    return Connecting(url, app, migrate, settings)


@attrs.define(eq=False, repr=False)
class Connecting:
    """A client that is not connected yet: await it, or enter it."""

    _url: str | None
    _app: App | None
    _migrate: bool
    _settings: Settings | None
    _client: AsyncClient | None = attrs.field(default=None, init=False)

    def __await__(self) -> Generator[Any, Any, AsyncClient]:
        return self._connect().__await__()

    async def __aenter__(self) -> AsyncClient:
        self._client = await self._connect()
        return self._client

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.close()

    async def _connect(self) -> AsyncClient:
        chosen = Settings.from_env(os.environ) if self._settings is None else self._settings
        ready = await asyncio.to_thread(
            prepared_url, self._url, schema=chosen.schema, migrate=self._migrate, pooler=chosen.pooler
        )
        pool = await AsyncPool.open(ready, size=POOL_SIZE, timeout=POOL_TIMEOUT, pooler=chosen.pooler)
        app = default_app if self._app is None else self._app
        return AsyncClient(Operations(chosen, app, Schema(chosen.schema)), pool)


@attrs.frozen(eq=False, repr=False)
class AsyncClient:
    """Starts runs, waits for them, looks at them and changes them. Close it, or use it in a `with` block."""

    _operations: Operations
    _pool: AsyncPool

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncClient of schema {self._operations.schema.name!r}>"

    async def close(self) -> None:
        """Close the connections. Calling it twice is fine."""
        await self._pool.close()

    # starting and waiting

    @overload
    async def start(self, call: Call[T], /, *, conn: AsyncConnection[Any] | None = None) -> AsyncRun[T]: ...
    @overload
    async def start(self, target: Definition[P, Any, T], /, *args: P.args, **kwargs: P.kwargs) -> AsyncRun[T]: ...
    async def start(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Start a run of `call`, or of a definition with its arguments.

        An id that exists attaches when the run has the same definition and input, in whatever state it is
        (`run.attached`); otherwise RunExists. With `conn`, a connection of the caller's, the run exists if and only if
        the caller's transaction commits. Raises DefinitionError, CodecError, TypeError, RunExists.
        """
        conn = kwargs.pop("conn", None) if isinstance(target, Call) else None
        return (await self.start_many([starting.as_call(target, args, kwargs)], conn=conn))[0]

    async def start_many(self, calls: Iterable[Call[T]], /, *, conn: AsyncConnection[Any] | None = None) -> RunList[T]:
        """Start runs of all calls, in one round trip; without `conn` all or none. Raises as `start` does."""
        given = list(calls)
        rows = await self._run(self._operations.start(given, own=conn is None), conn)
        return [
            self._wrapped(row, call.definition, attached) for call, (row, attached) in zip(given, rows, strict=True)
        ]

    async def result(self, run_id: RunId, timeout: Duration | None = None) -> Any:
        """Wait for a run to end and give its result.

        Raises RunFailed, RunCancelled, RunNotFound, or RunNotFinished when `timeout` passes first.
        """
        return await self._run(self._operations.result(run_id, timeout, asyncio.Event()))

    async def emit(self, event: str, payload: object = None, *, conn: AsyncConnection[Any] | None = None) -> str:
        """Emit the event `name`: runs that it triggers are started, whoever waits for it is told. Gives the event's id.

        With `conn`, a connection of the caller's, the event is there if and only if the caller's transaction commits.
        Raises DefinitionError, CodecError.
        """
        return await self._run(self._operations.emit(event, payload, own=conn is None), conn)

    # looking

    @overload
    async def get(self, run_id: RunId) -> AsyncRun[Any]: ...
    @overload
    async def get(self, run_id: RunId, of: Definition[..., Any, T]) -> AsyncRun[T]: ...
    async def get(self, run_id: RunId, of: Any = None) -> Any:
        """The run as it is now; its result is typed by `of`. Raises RunNotFound, DefinitionError for another's run."""
        row = await self._run(self._operations.get(run_id))
        return self._wrapped(row, self._operations.definition(row, of))

    async def list(self, query: RunQuery | None = None) -> Page[AsyncRun[Any]]:
        """A page of runs, the newest first unless the query says otherwise. Raises DefinitionError."""
        rows, cursor = await self._run(self._operations.list(query or RunQuery()))
        return Page(tuple([self._wrapped(row, self._operations.definition(row)) for row in rows]), cursor)

    async def count(self, query: RunQuery | None = None) -> int:
        """How many runs match; sort, limit, offset and cursor take no part. Raises DefinitionError."""
        return await self._run(self._operations.count(query or RunQuery()))

    async def history(self, run_id: RunId) -> History:
        """All that is recorded of a run, in order, with what was set aside. Raises RunNotFound."""
        return await self._run(self._operations.history(run_id))

    async def audit(self, run_id: RunId) -> Audit:
        """Who decided what about a run, when and why, in order. Raises RunNotFound."""
        return await self._run(self._operations.audit(run_id))

    async def trace(self, run_id: RunId) -> Trace[Any]:
        """The run's input, history and end, portable as JSON. Raises RunNotFound."""
        return await self._run(self._operations.trace(run_id))

    async def why(self, run_id: RunId) -> Why:
        """Why the run is not running: a sentence, and the same as data. Raises RunNotFound."""
        return await self._run(self._operations.why(run_id))

    # changing

    async def cancel(self, run_id: RunId, reason: str | None = None, *, by: str | None = None) -> AsyncRun[Any]:
        """Cancel a run and its live descendants, detached ones apart; cancelling a cancelled one changes nothing.

        A run that has begun is cancelled by its worker, after its `finally` blocks. `by` is who asks, for `audit`.
        Raises RunNotFound, FlowgenError for a run that completed or failed.
        """
        return await self._changed(self._operations.cancel(run_id, reason, by))

    async def pause(self, run_id: RunId, reason: str | None = None, *, by: str | None = None) -> AsyncRun[Any]:
        """Pause a run and its live descendants, detached ones apart; a running one stops at its next hang-up.

        Raises RunNotFound, FlowgenError for a run that has ended, is parked or is being cancelled.
        """
        return await self._changed(self._operations.pause(run_id, reason, by))

    async def resume(self, run_id: RunId, *, by: str | None = None) -> AsyncRun[Any]:
        """Resume a paused or parked run, and its paused descendants.

        Raises RunNotFound, FlowgenError for a run that has ended.
        """
        return await self._changed(self._operations.resume(run_id, by))

    async def set_deadline(self, run_id: RunId, duration: Duration, *, by: str | None = None) -> AsyncRun[Any]:
        """Let the run fail `duration` from now unless it ends before.

        Raises RunNotFound, FlowgenError for a run that has ended.
        """
        return await self._changed(self._operations.set_deadline(run_id, duration, by))

    async def retry(self, run_id: RunId, from_scratch: bool = False, *, by: str | None = None) -> AsyncRun[Any]:
        """A failed run goes on from what it has, or from scratch.

        Raises RunNotFound, FlowgenError for a run that has not failed.
        """
        return await self._changed(self._operations.retry(run_id, from_scratch, by))

    async def accept(self, run_id: RunId, *, by: str | None = None, reason: str | None = None) -> AsyncRun[Any]:
        """A parked run goes on with the code as it is.

        Raises RunNotFound, FlowgenError for a run that is not parked.
        """
        return await self._changed(self._operations.accept(run_id, by, reason))

    @property
    def steps(self) -> AsyncSteps:
        """What an operator decides about one command; see `Client.steps`."""
        return AsyncSteps(lambda run_id, order: self._changed(self._operations.order(run_id, order)))

    # messages

    async def signal(
        self, run_id: RunId, name: str, payload: object = None, *, conn: AsyncConnection[Any] | None = None
    ) -> None:
        """Send a signal to a run, which reads it with WaitSignal, now or later; the payload is any JSON.

        With `conn`, a connection of the caller's, it is sent if and only if the caller's transaction commits. Raises
        RunNotFound, CodecError, FlowgenError for a run that has ended.
        """
        await self._run(self._operations.signal(run_id, name, payload, own=conn is None), conn)

    async def complete(
        self, token: str | Token[Any], value: object = None, *, conn: AsyncConnection[Any] | None = None
    ) -> None:
        """What a completion token stands for was done: `Wait(token)` gives the value. Once; `conn` as in `signal`.

        Raises TokenNotFound for what is no token of this database, TokenUsed, CodecError.
        """
        await self._run(self._operations.complete(token, value, own=conn is None), conn)

    async def fail(
        self, token: str | Token[Any], error: str | BaseException | Failure, *, conn: AsyncConnection[Any] | None = None
    ) -> None:
        """What a completion token stands for cannot be done: `Wait(token)` throws WaitFailed. See `complete`."""
        await self._run(self._operations.fail(token, error, own=conn is None), conn)

    # carrying out

    async def _result_of(self, run: Snapshot[T], timeout: Duration | None) -> T:
        result: T = await self._run(self._operations.result(run, timeout, asyncio.Event()))
        return result

    async def _refreshed(self, run: AsyncRun[T]) -> AsyncRun[T]:
        return self._wrapped(await self._run(self._operations.get(run.uuid)), run.definition, run.attached)

    async def _changed(self, plan: Plan[RunRow]) -> AsyncRun[Any]:
        row = await self._run(plan)
        return self._wrapped(row, self._operations.definition(row))

    def _wrapped(self, row: Reading, definition: Definition[..., Any, T] | None, attached: bool = False) -> AsyncRun[T]:
        return AsyncRun(reading=row, attached=attached, definition=definition, client=self)

    async def _run(self, plan: Plan[T], conn: AsyncConnection[Any] | None = None) -> T:
        try:
            effect = next(plan)
            while True:
                try:
                    value = await self._perform(effect, conn)
                except FlowgenError as error:
                    effect = plan.throw(error)
                else:
                    effect = plan.send(value)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            plan.close()

    async def _perform(self, effect: Effect, conn: AsyncConnection[Any] | None) -> Any:
        if not isinstance(effect, Do):
            if isinstance(effect.bell, asyncio.Event):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(effect.seconds):
                        await effect.bell.wait()
                effect.bell.clear()
            else:
                await asyncio.sleep(effect.seconds)
            return None
        if conn is not None:
            return await run_async(lent_async(conn), effect.make(), self._operations.schema)
        try:
            async with self._pool.connection() as own:
                return await run_async(own, effect.make(), self._operations.schema)
        except DatabaseError as error:
            if error.transient and (error.sqlstate is None or error.sqlstate.startswith("57")):
                await self._pool.discard_broken()
            raise
