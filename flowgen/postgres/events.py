"""Events: rows that are kept for a while, the waits that are registered for them, and the triggers of definitions.

    emit(events) -> Op[None]                         in the caller's transaction, with the runs that they trigger
    declare(targets, triggers) -> Op[None]           at a worker's start: those of its own definitions, and nothing else
    tell(limit) -> Op[Told]                          one transaction: events get their places, waits their events
    sweep(keep, after, limit) -> Op[Swept]           events that are too old, waits of runs that have ended

Waits are registered and removed by the flush of their run (`FlushBatch.effects`). It never reads a filter: the database
applies it. The invariant: a wait is given one event, in the transaction that removes its registration.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import timedelta
from uuid import UUID

import attrs

from flowgen.core.ids import uuid_of_id
from flowgen.postgres.database import Op, Statement
from flowgen.postgres.effects import Emission, emission
from flowgen.postgres.rows import TriggerRow

__all__ = ["Swept", "Told", "declare", "emit", "sweep", "tell", "triggered_run_id"]


@attrs.frozen
class Told:
    """What a look came to."""

    busy: bool
    """Another worker is at it: look again soon."""
    waits: int
    """That were given an event."""
    more: bool
    """There was more than fits one transaction."""


@attrs.frozen
class Swept:
    """What a sweep came to."""

    events: int
    """Those that were deleted."""
    after: UUID | None
    """Where the next sweep of waits goes on; None: that was all."""


def triggered_run_id(event_id: UUID, target: str) -> UUID:
    """The run of one definition that one event starts, whoever emits it."""
    return uuid_of_id(str(event_id), target)


def emit(events: Sequence[Emission]) -> Op[None]:
    """Insert events, in this order; one whose id is there already, as after a lost answer, changes nothing."""
    text = json.dumps([emission(event) for event in events], ensure_ascii=False)
    yield Statement("events_emit", {"events": text})


def declare(targets: Iterable[str], triggers: Iterable[TriggerRow]) -> Op[None]:
    """Make `triggers` those of the definitions `targets`; all others stay as they are."""
    rows = [
        {
            "target": each.target,
            "number": each.number,
            "event": each.event,
            "filter": each.filter,
            "fields": each.fields,
            "queue": each.queue,
            "priority": each.priority,
            "kind": each.kind,
            "deadline": None if each.deadline is None else f"{each.deadline // timedelta(microseconds=1)} microseconds",
        }
        for each in triggers
    ]
    params = {"targets": sorted(targets), "triggers": json.dumps(rows, ensure_ascii=False)}
    yield Statement("events_declare", params)


def tell(limit: int) -> Op[Told]:
    """Give new events their places and waits their events; at most `limit` of each."""
    rows = yield Statement("events_tell", {"limit": limit})
    return Told(*rows[0])


def sweep(keep: timedelta, after: UUID, limit: int) -> Op[Swept]:
    """Delete at most `limit` events that are known for longer than `keep`, and the waits of runs that have ended.

    Of waits it looks at `limit` behind the run `after`.
    """
    rows = yield Statement("events_sweep", {"keep": keep, "after": after, "limit": limit})
    return Swept(*rows[0])
