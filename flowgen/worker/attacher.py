"""Starts children with an author's id, or attaches their parents to the runs that have it, off the group lane.

Such a run may exist already, so the statement waits for its row: one at a time, on a connection of its own. The
invariant: the CHILD entry (or the outcome of a Start) is in the same commit as the child; a conflict starts nothing and
is recorded as a failure.
"""

from __future__ import annotations

import attrs

from flowgen.core.entries import Entry, EntryKind
from flowgen.core.inputs import equal_inputs
from flowgen.core.sealing import words
from flowgen.postgres import children
from flowgen.postgres.children import Attached
from flowgen.postgres.rows import NewRun
from flowgen.worker.apart import Landed
from flowgen.worker.in_turn import InTurn
from flowgen.worker.live import LiveRun
from flowgen.worker.sealing import sealed_child

__all__ = ["Attacher"]

_SHOWN = 200
"""Characters of an input in a message."""


class Attacher(InTurn[NewRun, Attached]):
    """Its requests are children."""

    done = frozenset({"started", "attached"})

    async def _commit(self, run: LiveRun, request: NewRun, entry: Entry) -> Attached | Landed | None:
        """Ask with what is stored; an input that exists is compared in plain, and by its meaning. Raises CodecError."""
        seal = self._seal
        stored = entry if seal is None else seal.close_entry(entry)
        came = await self._asked(run, request if seal is None else sealed_child(seal, request), stored)
        if not isinstance(came, Attached) or came.what != "conflict" or came.input is None:
            return came
        there = came.input if seal is None else seal.readable(came.input) or came.input
        if came.name == request.name and equal_inputs(there, request.input):
            return await self._asked(run, attrs.evolve(request, input=came.input), stored)
        return attrs.evolve(came, input=there)

    async def _asked(self, run: LiveRun, child: NewRun, entry: Entry) -> Attached | Landed | None:
        blocks = entry.kind == EntryKind.CHILD
        claim = run.claimed.claim
        return await self._apart.commit(
            run, entry, lambda session: children.attach_child(session, claim, child, [entry], blocks=blocks)
        )

    def _shown(self, request: NewRun) -> str:
        return f"the child {request.id!r}"

    def _refusal(self, run: LiveRun, request: NewRun, came: Attached) -> tuple[str, str]:
        if came.what == "circle":
            return (
                f"the run {request.id!r} ({came.name}) waits for this one ({run.claimed.name}), itself or through "
                "others, or is this one: it would never end",
                "RunExists",
            )
        return (
            f"the run {request.id!r} exists: it is {came.name!r} with the input {_short(came.input)}"
            f"{' of its first pass' if came.went_on else ''}, not {request.name!r} with {_short(request.input)}",
            "RunExists",
        )


def _short(text: str | None) -> str:
    text = text or "null"
    text = words(text) or text
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
