"""Starts children with an author's id, or attaches their parents to the runs that have it, off the group lane.

Such a run may exist already, so the statement waits for its row: one at a time, on a connection of its own. While a
part of the parent is on its way nothing of it is sent here, and the other way round. The invariant: the CHILD entry (or
the outcome of a Start) is in the same commit as the child; a conflict starts nothing and is recorded as a failure.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import attrs

from flowgen.core.entries import Entry, EntryKind, OutcomeKind
from flowgen.core.failures import failure_to_json
from flowgen.core.sealing import Seal, words
from flowgen.errors import CodecError, DatabaseError, Failure
from flowgen.postgres import children
from flowgen.postgres import entries as entries_room
from flowgen.postgres.children import Attached
from flowgen.postgres.rows import NewRun
from flowgen.worker.committer import AGAIN, REFUSED, Committer, Told
from flowgen.worker.link import Link, backoff
from flowgen.worker.live import STAYS, LiveRun, Part
from flowgen.worker.sealing import sealed_child
from flowgen.worker.sessions import SessionHolder

__all__ = ["Attacher"]

_LANE = 0.0005
"""Seconds between two looks at whether the run's last part has landed."""
_SHOWN = 200
"""Characters of an input in a message."""


class Attacher:
    """One agent; `submit` from the event loop's thread."""

    def __init__(
        self,
        link: Link,
        session: SessionHolder,
        told: Told,
        committer: Committer,
        poke: Callable[[], None],
        seal: Seal | None = None,
    ) -> None:
        """`poke` says that a child may be ready, or that news for its parent may be there."""
        self._link = link
        self._session = session
        self._told = told
        self._committer = committer
        self._poke = poke
        self._seal = seal
        self._queue: deque[tuple[LiveRun, NewRun, Entry]] = deque()
        self._wake = asyncio.Event()

    def submit(self, run: LiveRun, child: NewRun, entry: Entry) -> None:
        """Start `child`, or attach to it, with the entry of its command."""
        self._queue.append((run, child, entry))
        self._wake.set()

    async def serve(self) -> None:
        """Attach until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                await self._attach(*self._queue.popleft())

    async def _attach(self, run: LiveRun, child: NewRun, entry: Entry) -> None:
        while run.sending and not run.gone:
            await asyncio.sleep(_LANE)
        ending = run.update is not None and run.update.action not in STAYS
        if run.gone or run.leaving or ending or run.stopping is not None:
            return  # nothing of it is recorded, so whoever goes on with the run asks for it again
        run.sending = True
        entry = attrs.evolve(entry, index=run.next_index)
        try:
            attached = await self._sealed(run, child, entry)
        except CodecError as error:
            run.sending = False
            self._refuse(run, entry, str(error), kind="CodecError")
            return
        except DatabaseError as error:
            if not (error.sqlstate or "").startswith(REFUSED):
                raise
            run.sending = False
            self._refuse(run, entry, f"the database refused the child {child.id!r}: {error}", kind="CodecError")
            return
        if attached is not None:
            self._came(run, child, entry, attached)

    async def _sealed(self, run: LiveRun, child: NewRun, entry: Entry) -> Attached | None:
        """Ask with what is stored; an input that exists is the same when it is in plain. Raises CodecError."""
        if self._seal is None:
            return await self._asked(run, child, entry)
        stored = self._seal.close_entry(entry)
        attached = await self._asked(run, sealed_child(self._seal, child), stored)
        if attached is None or attached.what != "conflict" or attached.input is None:
            return attached
        there = self._seal.readable(attached.input)
        if attached.name == child.name and there == child.input:
            return await self._asked(run, attrs.evolve(child, input=attached.input), stored)
        return attrs.evolve(attached, input=there)

    def _came(self, run: LiveRun, child: NewRun, entry: Entry, attached: Attached) -> None:
        if attached.what == "lost":
            run.sending = False
            self._told.disowned(run)
        elif attached.what == "circle":
            run.sending = False
            self._refuse(
                run,
                entry,
                f"the run {child.id!r} ({attached.name}) waits for this one ({run.claimed.name}), itself or through "
                "others, or is this one: it would never end",
            )
        elif attached.what == "conflict":
            run.sending = False
            self._refuse(
                run,
                entry,
                f"the run {child.id!r} exists: it is {attached.name!r} with the input {_short(attached.input)}, not "
                f"{child.name!r} with {_short(child.input)}",
            )
        else:
            run.next_index += 1
            due_at = attached.due.get((run.run_id, entry.index), entry.due_at)
            stored = attrs.evolve(entry, recorded_at=attached.now, due_at=due_at)
            self._told.committed([(Part(run, [stored]), None)], attached.now)
            self._poke()

    def _refuse(self, run: LiveRun, entry: Entry, message: str, kind: str = "RunExists") -> None:
        failure = failure_to_json(Failure(kind, message))
        run.entries.append(
            attrs.evolve(entry, index=-1, kind=EntryKind.OUTCOME, status=OutcomeKind.FAILURE, value=failure, delay=None)
        )
        self._committer.mark(run)

    async def _asked(self, run: LiveRun, child: NewRun, entry: Entry) -> Attached | None:
        """What came of it; None when the lease is over."""
        failures = 0
        while True:
            session = self._session.current
            attached: Attached | None
            try:
                blocks = entry.kind == EntryKind.CHILD
                attach = children.attach_child(session, run.claimed.claim, child, [entry], blocks=blocks)
                attached = await self._link.call(attach)
            except DatabaseError as error:
                if error.sqlstate in AGAIN:
                    await self._session.again(error, failures)
                    failures += 1
                    continue
                if not error.transient:
                    raise
                failures += 1
                self._session.trouble(error, failures)
                await asyncio.sleep(backoff(failures))
                attached = await self._unknown(run, entry)
                if attached is None:
                    if self._session.is_lost(session):
                        return None
                    continue
            if attached.what != "fenced":
                return attached
            if self._session.lost(session):
                return None
            if self._session.current == session:  # another agent asked for the next epoch and was not answered
                attached = await self._unknown(run, entry)
                if attached is not None:
                    return attached

    async def _unknown(self, run: LiveRun, entry: Entry) -> Attached | None:
        """After a lost answer: what was committed, or None when nothing was, or when the lease is over."""
        failures = 0
        while True:
            try:
                if await self._session.renew(self._link) is None:
                    return None
                stored = (await self._link.call(entries_room.read_back([run.run_id]))).get(run.run_id)
                if stored is None or stored.last_index < entry.index:
                    return None
                after = entry.index - 1
                page = await self._link.call(entries_room.page(run.run_id, base=0, prologue=0, after=after, limit=1))
                now = self._session.clock.now()
                due = {} if page[0].due_at is None else {(run.run_id, entry.index): page[0].due_at}
                return Attached("attached", page[0].recorded_at or now, None, None, due)
            except DatabaseError as error:
                if not error.transient:
                    raise
                failures += 1
                await asyncio.sleep(backoff(failures))


def _short(text: str | None) -> str:
    text = text or "null"
    text = words(text) or text
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
