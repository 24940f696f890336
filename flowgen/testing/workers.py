"""The workers of one test, on its own database: real ones, on threads of this process. They never outlive the test."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flowgen.core.settings import Settings

if TYPE_CHECKING:
    from flowgen.app import App
    from flowgen.worker.running import WorkerHandle

__all__ = ["Workers"]

QUICK = {"lease": 5, "poll": 0.1, "grace": 10}
"""A test waits for what it asks and not for the defaults."""


class Workers:
    """`flowgen_worker`: call it to start a worker."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._handles: list[WorkerHandle] = []

    def __call__(
        self,
        app: App | None = None,
        *,
        queues: Sequence[str] | None = None,
        concurrency: int | None = None,
        drain: bool = False,
        **settings: Any,
    ) -> WorkerHandle:
        """Start a worker and return it when it claims; it stops with the test, or by its `stop()`.

        Args:
            app: whose definitions are run; the default app unless given.
            queues: to claim from; None is every queue.
            concurrency: function calls in flight.
            drain: it ends as soon as nothing is due; wait for that with `join()`.
            settings: those of `Settings` that are not to be the quick ones of tests (`lease=1`, `schema="mine"`).
        """
        from flowgen import worker

        given: dict[str, Any] = {**QUICK, **settings}
        handle = worker(
            self._url, app=app, queues=queues, concurrency=concurrency, drain=drain, settings=Settings(**given)
        )
        handle.start()
        self._handles.append(handle)
        return handle

    def stop(self) -> None:
        """Stop every worker. Raises what ended one of them before."""
        with contextlib.ExitStack() as stack:
            while self._handles:
                stack.callback(self._handles.pop(0).stop)
