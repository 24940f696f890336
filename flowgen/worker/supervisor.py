"""Several worker processes: spawned, watched, replaced.

The supervisor runs no runs and holds no lease. It hears from each process which session is its own; when a process
dies it ends that session at once, so the runs go on in milliseconds instead of after the lease. When the supervisor
itself dies, each process sees its pipe close and stops gracefully.
"""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from multiprocessing.connection import Connection, wait
from typing import Any
from uuid import UUID

import attrs

from flowgen.app import App
from flowgen.app import app as default_app
from flowgen.core.settings import Settings
from flowgen.errors import DatabaseError, DefinitionError
from flowgen.postgres import database, notifications, workers
from flowgen.worker import collector
from flowgen.worker.worker import Worker

__all__ = ["STOPS", "check_spawned", "handling", "supervise"]

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""What stops a worker: asked for, Ctrl-C, a terminal that was closed."""

PAUSE = 0.5
"""Seconds between two tries to end the session of a dead process while the server cannot be reached."""
TRIES = 10
"""Looks at what a dead process has left; the janitors of the others look too."""

_log = logging.getLogger("flowgen.supervisor")


def handling(handle: Callable[[int, Any], object]) -> dict[int, Any]:
    """Set a handler for each of `STOPS`; the handlers before. One that was told to outlive its terminal does."""
    numbers = [each for each in STOPS if each != signal.SIGHUP or signal.getsignal(each) is not signal.SIG_IGN]
    return {number: signal.signal(number, handle) for number in numbers}


def check_spawned() -> None:
    """Refuse to run in a process that is only importing the main module. Raises DefinitionError."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise DefinitionError(
            "flowgen.run(processes=...) was reached while a worker process imported this module: put it under\n\n"
            '    if __name__ == "__main__":\n        flowgen.run(processes=...)'
        )


@attrs.frozen
class _Order:
    """What a process is told to run; it travels by the spawn's own means."""

    url: str = attrs.field(repr=False)
    app: tuple[str, str] | None
    modules: tuple[str, ...]
    """Where the app's definitions stand; imported first. The main module is imported by the spawn itself."""
    settings: Settings
    queues: Sequence[str] | None
    concurrency: int | None
    drain: bool


@attrs.define(eq=False)
class _Process:
    process: Any
    pipe: Connection
    session: UUID | None = None


def supervise(
    url: str,
    app: App,
    settings: Settings,
    *,
    queues: Sequence[str] | None,
    concurrency: int | None,
    processes: int,
    drain: bool,
) -> None:
    """Run `processes` workers until SIGTERM or SIGINT; with `drain` until each has found nothing due."""
    modules = {each.fn.__module__ for each in app.definitions.values()} - {"__main__"}
    order = _Order(url, _place_of(app), tuple(sorted(modules)), settings, queues, concurrency, drain)
    _Supervisor(order, processes).run()


def _place_of(app: App) -> tuple[str, str] | None:
    """Module and name under which a spawned process finds the app; None for the default app."""
    if app is default_app:
        return None
    for module in list(sys.modules.values()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if value is app:
                return ("__mp_main__" if module.__name__ == "__main__" else module.__name__), name
    raise DefinitionError(
        "flowgen.run(processes=...) needs an App that a new process can import: assign it to a name of a module"
    )


class _Supervisor:
    def __init__(self, order: _Order, count: int) -> None:
        self._order = order
        self._count = count
        self._context = multiprocessing.get_context("spawn")
        self._running: list[_Process] = []
        self._stopping = 0
        self._stillborn = 0
        """Processes in a row that never came to a session."""
        self._wake_read, self._wake_write = multiprocessing.Pipe(duplex=False)

    def run(self) -> None:
        before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            before = handling(self._handle)
        try:
            for _ in range(self._count):
                self._spawn()
            while self._running:
                self._watch()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            for each in self._running:
                each.process.kill()

    def _handle(self, number: int, _: object) -> None:
        self._stopping += 1
        self._wake_write.send(number)

    def _spawn(self) -> None:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(self._order, theirs), name="flowgen-worker")
        process.start()
        theirs.close()
        self._running.append(_Process(process, ours))

    def _watch(self) -> None:
        """Wait for one thing to happen: a word from a process, a death, a signal."""
        waitable: list[Any] = [self._wake_read, *(each.process.sentinel for each in self._running)]
        waitable += [each.pipe for each in self._running if not each.pipe.closed]
        ready = set(wait(waitable))
        if self._wake_read in ready:
            self._wake_read.recv()
            for each in self._running:
                self._stop(each)
        for each in list(self._running):
            if each.pipe in ready:
                self._hear(each)
            if each.process.sentinel in ready:
                self._ended(each)

    def _stop(self, each: _Process) -> None:
        """By its pipe: a signal may have come to the whole group, and is not to count twice in a process."""
        try:
            each.pipe.send(self._stopping)
        except OSError:  # it has just ended
            pass

    def _hear(self, each: _Process) -> None:
        try:
            each.session = each.pipe.recv()
        except (EOFError, OSError):
            each.pipe.close()

    def _ended(self, each: _Process) -> None:
        each.process.join()
        self._running.remove(each)
        while not each.pipe.closed and each.pipe.poll():
            self._hear(each)
        each.pipe.close()
        code = each.process.exitcode
        if code == 0:
            return
        _log.warning("worker process %s died (exit code %s); its runs go on elsewhere", each.process.pid, code)
        if each.session is not None and not self._buried(each.session):
            again = threading.Thread(target=self._bury, args=(each.session,), name="flowgen-bury", daemon=True)
            again.start()
        self._stillborn = 0 if each.session is not None else self._stillborn + 1
        if self._stillborn >= self._count + TRIES // 2:
            raise DefinitionError(
                f"{self._stillborn} worker processes ended (exit code {code}) before they had registered; look at what "
                'they printed. A program that calls flowgen.run(processes=...) does so under if __name__ == "__main__":'
            )
        if not self._stopping:
            if each.session is None:
                self._wake_read.poll(0.2)
            self._spawn()

    def _bury(self, session: UUID) -> None:
        """The server cannot be reached: try again for as long as the lease lasts; then it has ended by itself."""
        pause = threading.Event()
        tries = 0
        while tries * PAUSE < self._order.settings.lease.total_seconds() and not self._buried(session):
            tries += 1
            pause.wait(PAUSE)

    def _buried(self, session: UUID) -> bool:
        """End the session of a dead process and release what it owned; False when the server cannot be reached."""
        pause = threading.Event()
        try:
            conn = database.connect(self._order.url, application_name="flowgen supervisor")
            try:
                schema = database.Schema(self._order.settings.schema)
                database.run(conn, workers.bury(session), schema)
                found = False
                for _ in range(TRIES):
                    released = database.run(conn, workers.reap(), schema).released
                    if released:
                        found = True
                        database.run(conn, notifications.notify(schema), schema)
                    elif found:
                        break
                    pause.wait(0.02)  # the server may still be at the last statement of the dead
            finally:
                conn.close()
        except DatabaseError as error:
            _log.warning("the session of a dead process could not be ended yet: %s", error)
            return False
        return True


def _serve(order: _Order, pipe: Connection) -> None:
    """The main function of a spawned process."""
    for module in order.modules:
        import_module(module)
    if order.app is None:
        app = default_app
    else:
        app = getattr(sys.modules.get(order.app[0]) or import_module(order.app[0]), order.app[1])
    worker = Worker(
        order.url,
        app,
        order.settings,
        queues=order.queues,
        concurrency=order.concurrency,
        on_session=lambda session: _say(pipe, session),
    )
    stops = _Stops(worker)
    handling(lambda *_: stops.gently())
    threading.Thread(target=_watch_parent, args=(pipe, stops), daemon=True).start()
    collector.calm()
    asyncio.run(worker.serve(drain=order.drain))


def _say(pipe: Connection, session: UUID) -> None:
    """Tell the supervisor of a session. When it is gone this process is about to stop: `_watch_parent` sees it too."""
    try:
        pipe.send(session)
    except OSError:
        pass


class _Stops:
    """How often this process is to be stopped: as often as the supervisor is, whoever else says it too."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._asked = False

    def gently(self) -> None:
        if not self._asked:
            self._asked = True
            self._worker.stop()

    def at_once(self) -> None:
        self.gently()
        self._worker.stop()


def _watch_parent(pipe: Connection, stops: _Stops) -> None:
    """The supervisor says how often it was told to stop; when it is gone the pipe ends."""
    while True:
        try:
            times = pipe.recv()
        except (EOFError, OSError):
            stops.gently()
            return
        if times == 1:
            stops.gently()
        else:
            stops.at_once()
