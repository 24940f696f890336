"""The client for plain Python: carries out the plans of `operations` with a pool of connections.

Thread-safe: share one among threads. Holds no state but the pool and who waits. The invariant: what is started with
`conn=` exists if and only if the caller's transaction commits; everything else is committed when the verb returns.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeAlias, TypeVar, overload

import attrs

from flowgen.app import App
from flowgen.app import app as default_app
from flowgen.client import starting
from flowgen.client.audit import AuditItem
from flowgen.client.operations import Operations
from flowgen.client.plans import Do, Effect, Plan
from flowgen.client.queries import RunId, RunQuery
from flowgen.client.runs import HistoryItem, Page, Reading, Run, Snapshot
from flowgen.client.steps import Steps
from flowgen.client.why import Why
from flowgen.core.commands import Token
from flowgen.core.definitions import Call, Definition
from flowgen.core.durations import Duration
from flowgen.core.settings import Settings
from flowgen.core.trace import Trace
from flowgen.errors import DatabaseError, Failure, FlowgenError
from flowgen.postgres.database import Schema, run
from flowgen.postgres.opening import prepared_url
from flowgen.postgres.pools import Pool, lent
from flowgen.postgres.rows import RunRow

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["Client", "connect"]

T = TypeVar("T")
P = ParamSpec("P")
RunList: TypeAlias = list[Run[T]]
History: TypeAlias = list[HistoryItem]
Audit: TypeAlias = list[AuditItem]

POOL_SIZE = 10
POOL_TIMEOUT = 30.0


def connect(
    url: str | None = None, *, app: App | None = None, migrate: bool = False, settings: Settings | None = None
) -> Client:
    """A client of the database at `url`, else at `FLOWGEN_URL`, else of the embedded server.

    The schema is created when it is missing; an old one on a given URL is a SchemaError unless `migrate`. `app` knows
    the definitions by name (the default one when None), `settings` are those of the environment when None.
    Raises DefinitionError, SchemaError, DatabaseError.
    """
    chosen = Settings.from_env(os.environ) if settings is None else settings
    ready = prepared_url(url, schema=chosen.schema, migrate=migrate, pooler=chosen.pooler)
    pool = Pool.open(ready, size=POOL_SIZE, timeout=POOL_TIMEOUT, pooler=chosen.pooler)
    return Client(Operations(chosen, default_app if app is None else app, Schema(chosen.schema)), pool)


@attrs.frozen(eq=False, repr=False)
class Client:
    """Starts runs, waits for them, looks at them and changes them. Close it, or use it in a `with` block."""

    _operations: Operations
    _pool: Pool

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client of schema {self._operations.schema.name!r}>"

    def close(self) -> None:
        """Close the connections. Calling it twice is fine."""
        self._pool.close()

    # starting and waiting

    @overload
    def start(self, call: Call[T], /, *, conn: Connection[Any] | None = None) -> Run[T]: ...
    @overload
    def start(self, target: Definition[P, Any, T], /, *args: P.args, **kwargs: P.kwargs) -> Run[T]: ...
    def start(self, target: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Start a run of `call`, or of a definition with its arguments.

        An id that exists attaches when the run has the same definition and input, in whatever state it is
        (`run.attached`); otherwise RunExists. With `conn`, a connection of the caller's, the run exists if and only if
        the caller's transaction commits. Raises DefinitionError, CodecError, TypeError, RunExists.
        """
        conn = kwargs.pop("conn", None) if isinstance(target, Call) else None
        return self.start_many([starting.as_call(target, args, kwargs)], conn=conn)[0]

    def start_many(self, calls: Iterable[Call[T]], /, *, conn: Connection[Any] | None = None) -> RunList[T]:
        """Start runs of all calls, in one round trip; without `conn` all or none. Raises as `start` does."""
        given = list(calls)
        rows = self._run(self._operations.start(given, own=conn is None), conn)
        return [
            self._wrapped(row, call.definition, attached) for call, (row, attached) in zip(given, rows, strict=True)
        ]

    def result(self, run_id: RunId, timeout: Duration | None = None) -> Any:
        """Wait for a run to end and give its result.

        Raises RunFailed, RunCancelled, RunNotFound, or RunNotFinished when `timeout` passes first.
        """
        return self._run(self._operations.result(run_id, timeout, threading.Event()))

    def emit(self, event: str, payload: object = None, *, conn: Connection[Any] | None = None) -> str:
        """Emit the event `name`: runs that it triggers are started, whoever waits for it is told. Gives the event's id.

        With `conn`, a connection of the caller's, the event is there if and only if the caller's transaction commits.
        Raises DefinitionError, CodecError.
        """
        return self._run(self._operations.emit(event, payload, own=conn is None), conn)

    # looking

    @overload
    def get(self, run_id: RunId) -> Run[Any]: ...
    @overload
    def get(self, run_id: RunId, of: Definition[..., Any, T]) -> Run[T]: ...
    def get(self, run_id: RunId, of: Any = None) -> Any:
        """The run as it is now; its result is typed by `of`. Raises RunNotFound, DefinitionError for another's run."""
        row = self._run(self._operations.get(run_id))
        return self._wrapped(row, self._operations.definition(row, of))

    def list(self, query: RunQuery | None = None) -> Page[Run[Any]]:
        """A page of runs, the newest first unless the query says otherwise. Raises DefinitionError."""
        rows, cursor = self._run(self._operations.list(query or RunQuery()))
        return Page(tuple([self._wrapped(row, self._operations.definition(row)) for row in rows]), cursor)

    def count(self, query: RunQuery | None = None) -> int:
        """How many runs match; sort, limit, offset and cursor take no part. Raises DefinitionError."""
        return self._run(self._operations.count(query or RunQuery()))

    def history(self, run_id: RunId) -> History:
        """All that is recorded of a run, in order, with what was set aside. Raises RunNotFound."""
        return self._run(self._operations.history(run_id))

    def audit(self, run_id: RunId) -> Audit:
        """Who decided what about a run, when and why, in order. Raises RunNotFound."""
        return self._run(self._operations.audit(run_id))

    def trace(self, run_id: RunId) -> Trace[Any]:
        """The run's input, history and end, portable as JSON. Raises RunNotFound."""
        return self._run(self._operations.trace(run_id))

    def why(self, run_id: RunId) -> Why:
        """Why the run is not running: a sentence, and the same as data. Raises RunNotFound."""
        return self._run(self._operations.why(run_id))

    # changing

    def cancel(self, run_id: RunId, reason: str | None = None, *, by: str | None = None) -> Run[Any]:
        """Cancel a run and its live descendants, detached ones apart; cancelling a cancelled one changes nothing.

        A run that has begun is cancelled by its worker, after its `finally` blocks. `by` is who asks, for `audit`.
        Raises RunNotFound, FlowgenError for a run that completed or failed.
        """
        return self._changed(self._operations.cancel(run_id, reason, by))

    def pause(self, run_id: RunId, reason: str | None = None, *, by: str | None = None) -> Run[Any]:
        """Pause a run and its live descendants, detached ones apart; a running one stops at its next hang-up.

        Raises RunNotFound, FlowgenError for a run that has ended, is parked or is being cancelled.
        """
        return self._changed(self._operations.pause(run_id, reason, by))

    def resume(self, run_id: RunId, *, by: str | None = None) -> Run[Any]:
        """Resume a paused or parked run, and its paused descendants.

        Raises RunNotFound, FlowgenError for a run that has ended.
        """
        return self._changed(self._operations.resume(run_id, by))

    def set_deadline(self, run_id: RunId, duration: Duration, *, by: str | None = None) -> Run[Any]:
        """Let the run fail `duration` from now unless it ends before.

        Raises RunNotFound, FlowgenError for a run that has ended.
        """
        return self._changed(self._operations.set_deadline(run_id, duration, by))

    def retry(self, run_id: RunId, from_scratch: bool = False, *, by: str | None = None) -> Run[Any]:
        """A failed run goes on from what it has, or from scratch.

        Raises RunNotFound, FlowgenError for a run that has not failed.
        """
        return self._changed(self._operations.retry(run_id, from_scratch, by))

    def accept(self, run_id: RunId, *, by: str | None = None, reason: str | None = None) -> Run[Any]:
        """A parked run goes on with the code as it is.

        Raises RunNotFound, FlowgenError for a run that is not parked.
        """
        return self._changed(self._operations.accept(run_id, by, reason))

    @property
    def steps(self) -> Steps:
        """What an operator decides about one command: `client.steps.complete(run_id, "charge#2", "ch_2", by="ann")`."""
        return Steps(lambda run_id, order: self._changed(self._operations.order(run_id, order)))

    # messages

    def signal(self, run_id: RunId, name: str, payload: object = None, *, conn: Connection[Any] | None = None) -> None:
        """Send a signal to a run, which reads it with WaitSignal, now or later; the payload is any JSON.

        With `conn`, a connection of the caller's, it is sent if and only if the caller's transaction commits. Raises
        RunNotFound, CodecError, FlowgenError for a run that has ended.
        """
        self._run(self._operations.signal(run_id, name, payload, own=conn is None), conn)

    def complete(self, token: str | Token[Any], value: object = None, *, conn: Connection[Any] | None = None) -> None:
        """What a completion token stands for was done: `Wait(token)` gives the value. Once; `conn` as in `signal`.

        Raises TokenNotFound for what is no token of this database, TokenUsed, CodecError.
        """
        self._run(self._operations.complete(token, value, own=conn is None), conn)

    def fail(
        self, token: str | Token[Any], error: str | BaseException | Failure, *, conn: Connection[Any] | None = None
    ) -> None:
        """What a completion token stands for cannot be done: `Wait(token)` throws WaitFailed. See `complete`."""
        self._run(self._operations.fail(token, error, own=conn is None), conn)

    # carrying out

    def _result_of(self, run: Snapshot[T], timeout: Duration | None) -> T:
        result: T = self._run(self._operations.result(run, timeout, threading.Event()))
        return result

    def _refreshed(self, run: Run[T]) -> Run[T]:
        return self._wrapped(self._run(self._operations.get(run.uuid)), run.definition, run.attached)

    def _changed(self, plan: Plan[RunRow]) -> Run[Any]:
        row = self._run(plan)
        return self._wrapped(row, self._operations.definition(row))

    def _wrapped(self, row: Reading, definition: Definition[..., Any, T] | None, attached: bool = False) -> Run[T]:
        return Run(reading=row, attached=attached, definition=definition, client=self)

    def _run(self, plan: Plan[T], conn: Connection[Any] | None = None) -> T:
        try:
            effect = next(plan)
            while True:
                try:
                    value = self._perform(effect, conn)
                except FlowgenError as error:
                    effect = plan.throw(error)
                else:
                    effect = plan.send(value)
        except StopIteration as stop:
            result: T = stop.value
            return result
        finally:
            plan.close()

    def _perform(self, effect: Effect, conn: Connection[Any] | None) -> Any:
        if not isinstance(effect, Do):
            bell = effect.bell
            if not isinstance(bell, threading.Event):
                bell = threading.Event()
            bell.wait(effect.seconds)
            bell.clear()
            return None
        if conn is not None:
            return run(lent(conn), effect.make(), self._operations.schema)
        try:
            with self._pool.connection() as own:
                return run(own, effect.make(), self._operations.schema)
        except DatabaseError as error:
            if error.transient and (error.sqlstate is None or error.sqlstate.startswith("57")):
                self._pool.discard_broken()
            raise
