"""Requests of runs that are committed one at a time, on a connection of their own, in the order of their asking.

The invariant: what came of a request is told once; one that the store refuses is recorded as a failure of its command,
and nobody else's waits for it any longer.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar

import attrs

from flowgen.core.branches import Leaf
from flowgen.core.entries import Entry
from flowgen.core.sealing import Seal
from flowgen.errors import CodecError, DatabaseError
from flowgen.worker.apart import Apart, Came, Landed
from flowgen.worker.committer import REFUSED
from flowgen.worker.live import LiveRun

__all__ = ["InTurn"]

Q = TypeVar("Q")
R = TypeVar("R", bound=Came)


class InTurn(ABC, Generic[Q, R]):
    """One agent; `submit` from the event loop's thread."""

    done: ClassVar[frozenset[str]]
    """What a statement came to that did what was asked for."""

    def __init__(self, apart: Apart, poke: Callable[[], None], seal: Seal | None = None) -> None:
        """`poke` says that a run may be ready, or that there may be news for it."""
        self._apart = apart
        self._poke = poke
        self._seal = seal
        self._queue: deque[tuple[LiveRun, Q, Entry, Leaf | None]] = deque()
        self._wake = asyncio.Event()

    def submit(self, run: LiveRun, request: Q, entry: Entry) -> None:
        """Carry out the request in the commit of its command's entry."""
        self._queue.append((run, request, entry, run.execution.leaf(entry.key)))
        self._wake.set()

    async def serve(self) -> None:
        """Carry out what was asked for until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                await self._next(*self._queue.popleft())

    async def _next(self, run: LiveRun, request: Q, entry: Entry, leaf: Leaf | None) -> None:
        if not await self._apart.begin(run, leaf):
            return
        entry = attrs.evolve(entry, index=run.next_index)
        try:
            came = await self._commit(run, request, entry)
        except CodecError as error:
            self._apart.refuse(run, entry, str(error), "CodecError")
            return
        except DatabaseError as error:
            if not (error.sqlstate or "").startswith(REFUSED):
                raise
            self._apart.refuse(run, entry, f"the database refused {self._shown(request)}: {error}", "CodecError")
            return
        if came is None:
            return
        if isinstance(came, Landed) or came.what in self.done:
            self._apart.landed(run, entry, came)
            self._poke()
        elif came.what == "lost":
            self._apart.lost(run)
        else:
            self._apart.refuse(run, entry, *self._refusal(run, request, came))

    @abstractmethod
    async def _commit(self, run: LiveRun, request: Q, entry: Entry) -> R | Landed | None:
        """What came of it; None when the lease is over. Raises CodecError for what cannot be stored."""

    @abstractmethod
    def _refusal(self, run: LiveRun, request: Q, came: R) -> tuple[str, str]:
        """Why nothing was done, and the type of that failure."""

    @abstractmethod
    def _shown(self, request: Q) -> str:
        """The request, for an error."""
