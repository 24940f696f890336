"""Sends the signals of runs to other runs, off the group lane.

The statement waits for the row of whom it is sent to, and may find nobody: one at a time, on a connection of its own,
in the order in which they were asked for. The invariant: a signal is in the same commit as the outcome of its command;
one that cannot be sent is recorded as a failure.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from uuid import UUID

import attrs

from flowgen.core import ids
from flowgen.core.branches import Leaf
from flowgen.core.decision import SignalRequest
from flowgen.core.entries import Entry
from flowgen.core.sealing import Seal
from flowgen.core.states import Status, public
from flowgen.errors import CodecError, DatabaseError
from flowgen.postgres import messages
from flowgen.postgres.messages import Sent, SignalOut
from flowgen.worker.apart import Apart, Landed
from flowgen.worker.committer import REFUSED
from flowgen.worker.live import LiveRun

__all__ = ["Sender"]


class Sender:
    """One agent; `submit` from the event loop's thread."""

    def __init__(self, apart: Apart, schema: str, poke: Callable[[], None], seal: Seal | None = None) -> None:
        """`poke` says that a run may be ready, or that there may be news for it."""
        self._apart = apart
        self._schema = schema
        self._poke = poke
        self._seal = seal
        self._queue: deque[tuple[LiveRun, SignalRequest, Entry, Leaf | None]] = deque()
        self._wake = asyncio.Event()

    def submit(self, run: LiveRun, request: SignalRequest, entry: Entry) -> None:
        """Send a signal with the outcome of its command."""
        self._queue.append((run, request, entry, run.execution.leaf(entry.key)))
        self._wake.set()

    async def serve(self) -> None:
        """Send until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                await self._send(*self._queue.popleft())

    async def _send(self, run: LiveRun, request: SignalRequest, entry: Entry, leaf: Leaf | None) -> None:
        if not await self._apart.begin(run, leaf):
            return
        entry = attrs.evolve(entry, index=run.next_index)
        try:
            signal = self._signal(run.run_id, request)
            claim = run.claimed.claim
            came = await self._apart.commit(
                run, entry, lambda session: messages.send_signal(session, claim, signal, [entry])
            )
        except CodecError as error:
            self._apart.refuse(run, entry, str(error), "CodecError")
            return
        except DatabaseError as error:
            if not (error.sqlstate or "").startswith(REFUSED):
                raise
            self._apart.refuse(run, entry, f"the database refused it: {error}", "CodecError")
            return
        if came is not None:
            self._came(run, entry, signal, came)

    def _signal(self, sender: UUID, request: SignalRequest) -> SignalOut:
        """The signal as it is stored. Raises CodecError."""
        command, payload = request.command, request.payload
        if self._seal is not None:
            payload = self._seal.closed(payload, f"the payload of the signal {command.name}")
        to = ids.candidates(self._schema, command.run)
        return SignalOut(sender, to, str(command.run), command.name, payload)

    def _came(self, run: LiveRun, entry: Entry, signal: SignalOut, came: Sent | Landed) -> None:
        if isinstance(came, Landed) or came.what == "sent":
            self._apart.landed(run, entry, came)
            self._poke()
        elif came.what == "lost":
            self._apart.lost(run)
        elif came.what == "missing":
            self._apart.refuse(run, entry, f"no run has the id {signal.shown!r}", "RunNotFound")
        else:
            status = public(Status(came.status or 0)).value
            self._apart.refuse(run, entry, f"the run {signal.shown!r} ({came.name}) is {status}", "RunEnded")
