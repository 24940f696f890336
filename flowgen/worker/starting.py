"""`flowgen.run` and `flowgen.worker` as users see them; what they do is in `running`.

They open no other file of this room until they are called, so that `import flowgen` stays fast. They stand in a file of
their own, and not in the package, whose name `flowgen.worker` is the function's too: mypy would take one for the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flowgen.app import App
from flowgen.core.settings import Settings

if TYPE_CHECKING:
    from flowgen.worker.running import WorkerHandle

__all__ = ["run", "worker"]


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
    """Run a worker until SIGTERM or SIGINT, then stop gracefully and return.

    Args:
        worker_url: of the database; else `FLOWGEN_URL`, else the embedded server.
        app: whose definitions are run; the default app unless given.
        queues: to claim from; None is every queue.
        concurrency: function calls in flight per process; by default 100 async ones and min(32, cpus + 4) sync ones.
        processes: more than one are spawned and supervised: one that dies is replaced, and its runs go on at once.
        drain: return as soon as nothing is due.
        migrate: bring an old schema up to date first.
        settings: else those of the environment (`FLOWGEN_LEASE`, ...).

    Raises DefinitionError for values that do not fit, SchemaError for a database that does not.
    """
    from flowgen.worker import running  # opened late: it brings psycopg and asyncio

    running.run(
        worker_url,
        app=app,
        queues=queues,
        concurrency=concurrency,
        processes=processes,
        drain=drain,
        migrate=migrate,
        settings=settings,
    )


def worker(
    worker_url: str | None = None,
    *,
    app: App | None = None,
    queues: Sequence[str] | None = None,
    concurrency: int | None = None,
    drain: bool = False,
    migrate: bool = False,
    settings: Settings | None = None,
) -> WorkerHandle:
    """A worker beside other code: `with flowgen.worker(url) as w:` or `async with`, on a thread and loop of its own.

    The arguments are those of `run`. It sets no signal handlers.
    """
    from flowgen.worker import running  # opened late, as above

    return running.handle(
        worker_url,
        app=app,
        queues=queues,
        concurrency=concurrency,
        drain=drain,
        migrate=migrate,
        settings=settings,
    )
