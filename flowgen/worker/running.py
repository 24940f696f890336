"""`flowgen.run` and `flowgen.worker`: a worker as the whole program, or beside other code.

`run` belongs to the main thread and its signals; `worker` has a thread and an event loop of its own. Both return only
when the worker has stopped.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from flowgen.app import App
from flowgen.app import app as default_app
from flowgen.core.names import check_name
from flowgen.core.settings import Settings
from flowgen.errors import DatabaseError, DefinitionError
from flowgen.postgres.opening import prepared_url
from flowgen.worker import collector
from flowgen.worker.clock import monotonic
from flowgen.worker.link import backoff
from flowgen.worker.supervisor import check_spawned, handling, supervise
from flowgen.worker.worker import Worker

__all__ = ["WorkerHandle", "handle", "ready_url", "run"]

_log = logging.getLogger("flowgen.worker")

PATIENCE = 60.0
"""Seconds that a program which is a worker waits for a database that does not answer."""


def _checked(
    settings: Settings | None, queues: Sequence[str] | None, concurrency: int | None, processes: int
) -> Settings:
    """The settings, else those of the environment. Raises DefinitionError that names every problem of all of them."""
    problems = []
    if queues is not None and (isinstance(queues, str) or not queues):
        problems.append(f"queues is {queues!r}: give a list of names, or None for every queue")
    else:
        for queue in queues or ():
            try:
                check_name(queue, "a queue")
            except DefinitionError as error:
                problems.append(str(error))
    for name, value in (("concurrency", concurrency), ("processes", processes)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
            problems.append(f"{name} is {value!r}: give a whole number of at least 1")
    try:
        chosen = settings if settings is not None else Settings.from_env(os.environ)
    except DefinitionError as error:
        raise DefinitionError("\n".join([*problems, str(error)])) from None
    if problems:
        raise DefinitionError("\n".join(problems))
    return chosen


def run(
    worker_url: str | None = None,
    *,
    app: App | None = None,
    queues: Sequence[str] | None = None,
    concurrency: int | None = None,
    processes: int = 1,
    drain: bool = False,
    migrate: bool = False,
    settings: Settings | None = None,
) -> None:
    """See `flowgen.run`."""
    check_spawned()
    chosen = _checked(settings, queues, concurrency, processes)
    url = ready_url(worker_url, chosen, migrate=migrate)
    which = app if app is not None else default_app
    if processes > 1:
        supervise(url, which, chosen, queues=queues, concurrency=concurrency, processes=processes, drain=drain)
        return
    one = Worker(url, which, chosen, queues=queues, concurrency=concurrency)
    collector.calm()
    with _signals(one):
        asyncio.run(one.serve(drain=drain))


def ready_url(url: str | None, settings: Settings, *, migrate: bool) -> str:
    """The URL of a database whose schema is ready; one that restarts is waited for, as a running worker would.

    Raises SchemaError, and DatabaseError when trying again would not help or has not within `PATIENCE`.
    """
    began = monotonic()
    failures = 0
    while True:
        try:
            return prepared_url(url, schema=settings.schema, migrate=migrate, pooler=settings.pooler)
        except DatabaseError as error:
            if not error.transient or monotonic() - began > PATIENCE:
                raise
            failures += 1
            if failures == 1 or failures % 10 == 0:
                _log.warning("the database does not answer yet (%s); trying again", error)
        time.sleep(backoff(failures))


class _signals:  # noqa: N801 - used as a with-statement's word
    """The signals of `STOPS` stop the worker while the block runs; in the main thread, which alone may set handlers."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._before: dict[int, Any] = {}
        self._asked = False

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = handling(self._handle)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: object) -> None:
        if number == signal.SIGINT and not self._asked:
            _tell(self._worker.busy_with())
        self._asked = True
        self._worker.stop()


def _tell(busy: Sequence[str]) -> None:
    waits = f"waiting for {len(busy)} steps to end ({', '.join(busy[:5])})" if busy else "stopping"
    try:
        print(f"flowgen: {waits}; press Ctrl-C again to stop at once", file=sys.stderr, flush=True)
    except OSError:  # nobody reads stderr any more
        pass


class WorkerHandle:
    """A worker on a thread of its own; a context manager, sync and async."""

    def __init__(self, make: Callable[[], Worker], drain: bool) -> None:
        self._make = make
        self._drain = drain
        self._worker: Worker | None = None
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._error: BaseException | None = None

    def start(self) -> Self:
        """Start the worker; returns when it is registered. Raises what keeps it from starting."""
        self._worker = self._make()
        self._thread = threading.Thread(target=self._serve, name="flowgen-worker", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._error is not None:
            self._thread.join()
            raise self._error
        return self

    def stop(self) -> None:
        """Stop gracefully, and wait for it. Raises what ended the worker before."""
        if self._worker is not None and self._thread is not None:
            self._worker.stop()
            self._thread.join()
        if self._error is not None:
            raise self._error

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the worker has ended by itself (`drain=True`); whether it has."""
        assert self._thread is not None
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _serve(self) -> None:
        assert self._worker is not None
        try:
            asyncio.run(self._worker.serve(drain=self._drain, started=self._started.set))
        except BaseException as error:
            self._error = error
        finally:
            self._started.set()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)


def handle(
    worker_url: str | None = None,
    *,
    app: App | None = None,
    queues: Sequence[str] | None = None,
    concurrency: int | None = None,
    drain: bool = False,
    migrate: bool = False,
    settings: Settings | None = None,
) -> WorkerHandle:
    """See `flowgen.worker`."""
    chosen = _checked(settings, queues, concurrency, 1)

    def make() -> Worker:
        url = prepared_url(worker_url, schema=chosen.schema, migrate=migrate, pooler=chosen.pooler)
        which = app if app is not None else default_app
        return Worker(url, which, chosen, queues=queues, concurrency=concurrency)

    return WorkerHandle(make, drain)
