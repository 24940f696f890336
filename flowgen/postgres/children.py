"""A child with an author's id, off the group lane.

    attach_child(session, claim, child, entries, wait=True, blocks=False) -> Op[Attached]

Such a run may exist: started by anyone, at any time. When its definition and input are the same, the parent is told of
its end like any parent; when they are not, that is a conflict, which the parent records as a failure. It never starts
the same id twice and never revives a run that has ended. The invariant: the entries (the CHILD entry among them) are
in the same commit as the start or the attachment, and in none when it is a conflict. This is the one statement of a
worker that waits for rows: give it a connection of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import attrs

from flowgen.core.entries import Entry
from flowgen.postgres.database import Op, Statement, utc
from flowgen.postgres.entries import due_times, entry_params
from flowgen.postgres.rows import NewRun, Session

__all__ = ["Attached", "attach_child"]


@attrs.frozen
class Attached:
    """What came of it. `lost`: the parent is not this session's any more, or not at this claim."""

    what: Literal["fenced", "lost", "started", "attached", "conflict", "circle"]
    now: datetime
    name: str | None
    """Of the run that exists."""
    input: str | None
    due: Mapping[tuple[UUID, int], datetime]
    """`due_at` of each entry that had a delay."""
    went_on: bool = False
    """As new: `input` is that of its first pass."""


def attach_child(
    session: Session, claim: int, child: NewRun, entries: Sequence[Entry], *, wait: bool = True, blocks: bool = False
) -> Op[Attached]:
    """Start `child`, or wait for the run of its id (`wait` False: only start it), with the parent's `entries`.

    With `blocks` the parent does not go on before that run ends: a run that waits for the parent is then a `circle`,
    and nothing is written. Two workers that close one at the same moment may miss it.
    When the run has ended already its end stands in the parent's inbox at once.
    """
    assert child.parent_id is not None
    parent = child.parent_id
    params = {"session": session.id, "epoch": session.epoch, "claim": claim}
    params |= entry_params([(parent, entry) for entry in entries])
    params |= {
        "run": child.run_id,
        "id": child.id,
        "kind": child.kind,
        "name": child.name,
        "queue": child.queue,
        "priority": child.priority,
        "input": child.input,
        "at": child.at,
        "delay": child.delay,
        "deadline": child.deadline,
        "tags": list(child.tags) or None,
        "correlation": child.correlation_id,
        "parent_correlation": child.parent_correlation_id,
        "parent": parent,
        "parent_key": child.parent_key or "",
        "root": child.root_id,
        "depth": child.depth,
        "detached": child.detached,
        "trigger": child.trigger,
        "wait": wait,
        "blocks": blocks,
    }
    rows = yield Statement("attach_child", params)
    what, now, name, given, went_on, *due = rows[0]
    return Attached(what, utc(now), name, given, due_times(*due), went_on)
