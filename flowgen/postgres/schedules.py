"""Schedules: rows whose time moves in the transaction that makes a tick's run.

    declare(changes, targets) -> Op[None]              at a worker's start: those of its own definitions' code
    change(changes) -> Op[None]                        create, replace, remove (`cron` None)
    tick(next_of, limit=100) -> Op[Ticked]             one transaction; next_of(row, now) -> the next time after `now`
    pause(target, name) / resume(target, name) -> Op[bool]
    all_schedules() -> Op[Sequence[ScheduleRow]]

Times come from the database and the expression is read by the caller (`flowgen.core.cron`), between two statements.
Never twice and never lost: the id of a tick's run is derived from schedule and tick, and run and next time are one
commit. A schedule that is edited keeps its next time unless cron or zone changed.

Overlap, while the run of the last tick has not ended: `allow` starts another one, `skip` lets the tick pass,
`cancel_previous` starts one and cancels the last, `queue` leaves the tick standing until the last run has ended.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import attrs

from flowgen.core.ids import uuid_of_id
from flowgen.failpoints import ARMED, failpoint
from flowgen.postgres import arrays
from flowgen.postgres.claims import cancel_runs
from flowgen.postgres.database import Begin, Commit, Op, Statement
from flowgen.postgres.entries import schedules_json
from flowgen.postgres.rows import ScheduleChange, ScheduleRow

__all__ = ["Ticked", "all_schedules", "change", "declare", "pause", "resume", "tick", "tick_run_id"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@attrs.frozen
class Ticked:
    """What a tick came to."""

    now: datetime | None
    """None when nothing was due."""
    started: tuple[UUID, ...]
    """The runs that were made."""
    moved: int
    """Schedules whose time moved; as many as `limit` may mean that more are due."""
    next_at: datetime | None = None
    """The next time of those that moved."""


def tick_run_id(schedule_id: UUID, tick_at: datetime) -> UUID:
    """The run of one tick of one schedule, whoever makes it."""
    return uuid_of_id(str(schedule_id), str((tick_at - _EPOCH) // timedelta(microseconds=1)))


def tick(next_of: Callable[[ScheduleRow, datetime], datetime | None], *, limit: int = 100) -> Op[Ticked]:
    """Start the runs of due schedules and move their times, in one transaction.

    `next_of` gives the next time after `now`; what it skips is the catch-up policy of the caller. None leaves the
    schedule as it is. When it raises, nothing is committed.
    """
    yield Begin()
    rows = yield Statement("schedules_due", {"limit": limit})
    moves: list[tuple[UUID, datetime, UUID | None, str]] = []
    superseded: list[UUID] = []
    now: datetime | None = None
    for row in rows:
        schedule, (now, last_run_id, live) = _row(row), row[14:]
        if live and schedule.overlap == "queue":
            continue
        assert now is not None
        following = next_of(schedule, now)
        if following is None:
            continue
        run_id = tick_run_id(schedule.schedule_id, schedule.next_at)
        if live and schedule.overlap == "cancel_previous":
            superseded.append(last_run_id)
        wanted = not (live and schedule.overlap == "skip")
        moves.append((schedule.schedule_id, following, run_id if wanted else None, _trigger(schedule)))
    started = []
    if moves:
        started = yield Statement(
            "schedules_move",
            {
                "schedule": arrays.uuids([move[0] for move in moves]),
                "next_at": arrays.timestamps([move[1] for move in moves]),
                "run": arrays.uuids([move[2] for move in moves]),
                "trigger": arrays.texts([move[3] for move in moves]),
            },
        )
    if superseded:
        yield from cancel_runs(superseded, "the schedule's next run began")
    if ARMED and started:
        failpoint("cron.after_enqueue")
    yield Commit()
    if ARMED and started:
        failpoint("cron.after_commit")
    next_at = min((move[1] for move in moves), default=None)
    return Ticked(now, tuple(run_id for (run_id,) in started), len(moves), next_at)


def _trigger(schedule: ScheduleRow) -> str:
    scheduled_at = schedule.next_at.astimezone(UTC).isoformat()
    return json.dumps({"kind": "cron", "name": schedule.name, "scheduled_at": scheduled_at})


def declare(changes: Iterable[ScheduleChange], targets: Iterable[str] = ()) -> Op[None]:
    """Create or replace the schedules that this worker's code declares, and remove what code declared before.

    Only of the definitions `targets`, which this worker knows; all others and all dynamic ones stay as they are.
    """
    declared = [attrs.evolve(item, origin="code") for item in changes]
    yield Statement(
        "schedules_forget",
        {
            "targets": arrays.texts(sorted(targets)),
            "target": arrays.texts([item.target for item in declared]),
            "name": arrays.texts([item.name for item in declared]),
        },
    )
    yield from change(declared)


def change(changes: Iterable[ScheduleChange]) -> Op[None]:
    """Create, replace or remove schedules. Each one that is not removed has its first `next_at`."""
    yield Statement("schedules_change", {"schedules": schedules_json([(None, item) for item in changes])})


def pause(target: str, name: str) -> Op[bool]:
    """No tick until resumed. False: there is no such schedule."""
    return bool((yield Statement("schedules_pause", {"target": target, "name": name, "paused": True})))


def resume(target: str, name: str) -> Op[bool]:
    """Tick again; the time that passed meanwhile is one tick, or what `next_of` makes of it."""
    return bool((yield Statement("schedules_pause", {"target": target, "name": name, "paused": False})))


def all_schedules() -> Op[Sequence[ScheduleRow]]:
    """Every schedule, by target and name."""
    return [_row(row) for row in (yield Statement("schedules_list"))]


def _row(row: tuple[Any, ...]) -> ScheduleRow:
    schedule_id, target, name, cron, zone, given, queue, priority, kind, origin, overlap, paused, next_at, last_at = (
        row[:14]
    )
    return ScheduleRow(
        schedule_id=schedule_id,
        target=target,
        name=name,
        cron=cron,
        timezone=zone,
        input=given,
        queue=queue,
        priority=priority,
        kind=kind,
        origin=origin,
        overlap=overlap,
        paused=paused,
        next_at=next_at,
        last_at=last_at,
    )
