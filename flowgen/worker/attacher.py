"""Starts children with an author's id, or attaches their parents to the runs that have it, off the group lane.

Such a run may exist already, so the statement waits for its row: one at a time, on a connection of its own. The
invariant: the CHILD entry (or the outcome of a Start) is in the same commit as the child; a conflict starts nothing and
is recorded as a failure.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import attrs

from flowgen.core.branches import Leaf
from flowgen.core.entries import Entry, EntryKind
from flowgen.core.sealing import Seal, words
from flowgen.errors import CodecError, DatabaseError
from flowgen.postgres import children
from flowgen.postgres.children import Attached
from flowgen.postgres.rows import NewRun
from flowgen.worker.apart import Apart, Landed
from flowgen.worker.committer import REFUSED
from flowgen.worker.live import LiveRun
from flowgen.worker.sealing import sealed_child

__all__ = ["Attacher"]

_SHOWN = 200
"""Characters of an input in a message."""


class Attacher:
    """One agent; `submit` from the event loop's thread."""

    def __init__(self, apart: Apart, poke: Callable[[], None], seal: Seal | None = None) -> None:
        """`poke` says that a child may be ready, or that news for its parent may be there."""
        self._apart = apart
        self._poke = poke
        self._seal = seal
        self._queue: deque[tuple[LiveRun, NewRun, Entry, Leaf | None]] = deque()
        self._wake = asyncio.Event()

    def submit(self, run: LiveRun, child: NewRun, entry: Entry) -> None:
        """Start `child`, or attach to it, with the entry of its command."""
        self._queue.append((run, child, entry, run.execution.leaf(entry.key)))
        self._wake.set()

    async def serve(self) -> None:
        """Attach until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                await self._attach(*self._queue.popleft())

    async def _attach(self, run: LiveRun, child: NewRun, entry: Entry, leaf: Leaf | None) -> None:
        if not await self._apart.begin(run, leaf):
            return
        entry = attrs.evolve(entry, index=run.next_index)
        try:
            came = await self._sealed(run, child, entry)
        except CodecError as error:
            self._apart.refuse(run, entry, str(error), "CodecError")
            return
        except DatabaseError as error:
            if not (error.sqlstate or "").startswith(REFUSED):
                raise
            self._apart.refuse(run, entry, f"the database refused the child {child.id!r}: {error}", "CodecError")
            return
        if came is not None:
            self._came(run, child, entry, came)

    async def _sealed(self, run: LiveRun, child: NewRun, entry: Entry) -> Attached | Landed | None:
        """Ask with what is stored; an input that exists is the same when it is in plain. Raises CodecError."""
        if self._seal is None:
            return await self._asked(run, child, entry)
        stored = self._seal.close_entry(entry)
        came = await self._asked(run, sealed_child(self._seal, child), stored)
        if not isinstance(came, Attached) or came.what != "conflict" or came.input is None:
            return came
        there = self._seal.readable(came.input)
        if came.name == child.name and there == child.input:
            return await self._asked(run, attrs.evolve(child, input=came.input), stored)
        return attrs.evolve(came, input=there)

    async def _asked(self, run: LiveRun, child: NewRun, entry: Entry) -> Attached | Landed | None:
        blocks = entry.kind == EntryKind.CHILD
        claim = run.claimed.claim
        return await self._apart.commit(
            run, entry, lambda session: children.attach_child(session, claim, child, [entry], blocks=blocks)
        )

    def _came(self, run: LiveRun, child: NewRun, entry: Entry, came: Attached | Landed) -> None:
        if isinstance(came, Landed) or came.what in ("started", "attached"):
            self._apart.landed(run, entry, came)
            self._poke()
        elif came.what == "lost":
            self._apart.lost(run)
        elif came.what == "circle":
            self._apart.refuse(
                run,
                entry,
                f"the run {child.id!r} ({came.name}) waits for this one ({run.claimed.name}), itself or through "
                "others, or is this one: it would never end",
                "RunExists",
            )
        else:
            self._apart.refuse(
                run,
                entry,
                f"the run {child.id!r} exists: it is {came.name!r} with the input {_short(came.input)}, not "
                f"{child.name!r} with {_short(child.input)}",
                "RunExists",
            )


def _short(text: str | None) -> str:
    text = text or "null"
    text = words(text) or text
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
