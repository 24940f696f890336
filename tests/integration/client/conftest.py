"""A client on a fresh database, sync and async behind one face, and what tests do to rows in a worker's place."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

import flowgen
from flowgen import Flow
from flowgen.client.aio import AsyncClient, connect_async
from flowgen.client.sync import Client, connect
from flowgen.core.states import Status


class Settled:
    """The async client for a test that is not async: a loop on a thread carries each call out."""

    def __init__(self, url: str, app: flowgen.App) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.client: AsyncClient = self.settle(connect_async(url, app=app))

    def settle(self, value: Any) -> Any:
        async def awaited() -> Any:
            return await value

        if not inspect.isawaitable(value):
            return value
        return asyncio.run_coroutine_threadsafe(awaited(), self.loop).result(60)

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: self.settle(getattr(self.client, name)(*args, **kwargs))

    def end(self) -> None:
        self.settle(self.client.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture
def app() -> flowgen.App:
    return flowgen.App()


@pytest.fixture
def checkout(app: flowgen.App) -> flowgen.Workflow[..., Any, str]:
    @app.workflow
    def checkout(order_id: str = "o", cents: int = 5) -> Flow[str]:
        yield from ()
        return order_id

    return checkout


@pytest.fixture
def client(flowgen_database: str, app: flowgen.App) -> Iterator[Client]:
    with connect(flowgen_database, app=app) as made:
        yield made


@pytest.fixture(params=["sync", "async"])
def verbs(request: pytest.FixtureRequest, flowgen_database: str, app: flowgen.App) -> Iterator[Any]:
    """Either client; both are called as the sync one is."""
    if request.param == "sync":
        with connect(flowgen_database, app=app) as made:
            yield made
        return
    settled = Settled(flowgen_database, app)
    try:
        yield settled
    finally:
        settled.end()


@pytest.fixture
def db(direct_database: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(direct_database, autocommit=True) as conn:
        yield conn


class Store:
    """What a worker would have done to the rows."""

    def __init__(self, db: psycopg.Connection[Any]) -> None:
        self.db = db

    def worker(self, names: list[str], queues: list[str] | None = None, *, live: bool = True) -> UUID:
        worker_id = uuid4()
        self.db.execute(
            "INSERT INTO flowgen.worker (worker_id, lease_until, started_at, system_identifier, pid, timeline, host, "
            "versions, queues, names) VALUES (%s, now() + %s::interval, now(), 1, 4711, '1', 'box', '{}', %s, %s)",
            (worker_id, "1 hour" if live else "-1 hour", queues, names),
        )
        return worker_id

    def begin(self, run: UUID, owner: UUID | None = None) -> None:
        """A worker has claimed the run."""
        self._set(run, Status.RUNNING, "owner = %s, claim = claim + 1, started_at = now()", owner or uuid4())

    def wait(self, run: UUID, due_in: str | None = None) -> None:
        """It has begun and hung up."""
        self._set(
            run,
            Status.WAITING,
            "owner = NULL, claim = claim + 1, started_at = now(), due_at = now() + %s::interval",
            due_in,
        )

    def complete(self, run: UUID, output: str = "null") -> None:
        self._set(run, Status.COMPLETED, "owner = NULL, finished_at = now(), started_at = now(), output = %s", output)

    def fail(self, run: UUID, error: str = '{"type":"ValueError","message":"boom"}') -> None:
        self._set(run, Status.FAILED, "owner = NULL, finished_at = now(), started_at = now(), error = %s", error)

    def park(self, run: UUID, error: str) -> None:
        self._set(run, Status.PARKED, "owner = NULL, started_at = now(), error = %s", error)

    def _set(self, run: UUID, status: Status, what: str, value: object) -> None:
        done = self.db.execute(
            f"UPDATE flowgen.run SET status = %s, {what} WHERE run_id = %s".encode(), (status, value, run)
        )
        assert done.rowcount == 1

    def child(self, parent: UUID, *, detached: bool = False, name: str = "child", key: str | None = None) -> UUID:
        """A parent has made a child that nobody has begun."""
        run_id = uuid4()
        self.db.execute(
            "INSERT INTO flowgen.run (run_id, created_at, parent_id, root_id, parent_key, detached, status, due_at, "
            "queue, name, kind, input) SELECT %s, now(), run_id, coalesce(root_id, run_id), %s, %s, 0, now(), "
            "'default', %s, 'workflow', '{}' FROM flowgen.run WHERE run_id = %s",
            (run_id, key, detached, name, parent),
        )
        return run_id

    def entry(self, run: UUID, index: int, kind: int, key: str, **columns: Any) -> None:
        names = "".join(f", {name}" for name in columns)
        marks = ", %s" * len(columns)
        self.db.execute(
            f"INSERT INTO flowgen.entry (run_id, recorded_at, index, kind, key{names}) "
            f"VALUES (%s, now(), %s, %s, %s{marks})".encode(),
            (run, index, kind, key, *columns.values()),
        )

    def column(self, run: UUID, column: str) -> Any:
        row = self.db.execute(f"SELECT {column} FROM flowgen.run WHERE run_id = %s".encode(), (run,)).fetchone()
        assert row is not None
        return row[0]

    def status(self, run: UUID) -> Status:
        return Status(self.column(run, "status"))

    def inbox(self, run: UUID) -> list[tuple[int, str, str]]:
        return self.db.execute(
            "SELECT kind, key, payload FROM flowgen.inbox WHERE run_id = %s ORDER BY id", (run,)
        ).fetchall()


@pytest.fixture
def store(db: psycopg.Connection[Any]) -> Store:
    return Store(db)
