"""Runs as clients write them: start, cancel, pause, resume, retry, accept, a new deadline.

Each function is an operation: it yields statements, is sent rows and returns values; it never connects. The invariants:
a run that a worker owns is only asked (`request`, `mail`) and never changed otherwise; whether an author's id exists is
decided by the primary key, as its UUID derives from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import attrs

from flowgen.core.ids import uuid_of_id
from flowgen.errors import DatabaseError
from flowgen.postgres import arrays
from flowgen.postgres.database import Begin, Commit, Op, Schema, Statement
from flowgen.postgres.observe import get
from flowgen.postgres.rows import NewRun, RunRow

__all__ = [
    "Started",
    "accept",
    "cancel",
    "pause",
    "resume",
    "retry",
    "run_id_for",
    "set_deadline",
    "start",
    "step_order",
]

# A row that exists at the insert and is deleted before the look, as often as this, is no accident any more.
_START_ROUNDS: Final = 5
_CASCADE_ROUNDS: Final = 1000


def run_id_for(schema: Schema, id: str) -> UUID:
    """The UUID of the run with an author's id."""
    return uuid_of_id(schema.name, id)


@attrs.frozen
class Started:
    """What a start came to. Runs without an author's id are always created."""

    now: datetime
    """The database's time."""
    created: frozenset[UUID]
    """Those with an author's id that were inserted."""
    existing: dict[UUID, RunRow]
    """Those that were there already, also when an earlier row of the same start had made them."""
    idle: bool
    """Some worker wants to be told of them, once they are committed."""


def start(rows: Sequence[NewRun], *, again: bool = True) -> Op[Started]:
    """Insert runs in one statement, all or none; runs that exist are left as they are and given back.

    A run_id given twice counts as existing the second time. Only rows with an author's `id` may exist already, and
    others that an earlier try may have inserted; with `again` False there was none.
    """
    if not again and all(row.id is None for row in rows):
        [(clock, told)] = yield Statement("start_new", _columns(rows))
        return Started(clock, frozenset(), {}, told)
    wanted = list(rows)
    now: datetime | None = None
    idle = False
    created: set[UUID] = set()
    existing: dict[UUID, RunRow] = {}
    for _ in range(_START_ROUNDS):
        [(clock, inserted, told)] = yield Statement("start", _columns(wanted))
        now = now or clock
        idle = idle or told
        created.update(inserted)
        left = _not_inserted(wanted, inserted)
        if left:
            existing.update((yield from get(list({row.run_id for row in left}))))
        wanted = [row for row in left if row.run_id not in existing]
        if not wanted:
            return Started(now, frozenset(created), existing, idle)
    raise DatabaseError(
        f"The run {wanted[0].id!r} was deleted as often as it was started: start it again", transient=True
    )


def _not_inserted(rows: list[NewRun], inserted: Sequence[UUID]) -> list[NewRun]:
    new = set(inserted)
    left: list[NewRun] = []
    for row in rows:
        if row.id is None or row.run_id in new:
            new.discard(row.run_id)
        else:
            left.append(row)
    return left


def _columns(rows: Sequence[NewRun]) -> dict[str, Any]:
    return {
        "run_ids": arrays.uuids([row.run_id for row in rows]),
        "ids": arrays.texts([row.id for row in rows]),
        "names": arrays.texts([row.name for row in rows]),
        "kinds": arrays.texts([row.kind for row in rows]),
        "queues": arrays.texts([row.queue for row in rows]),
        "priorities": arrays.int4s([row.priority for row in rows]),
        "inputs": arrays.texts([row.input for row in rows]),
        "delays": arrays.intervals([row.delay for row in rows]),
        "ats": arrays.timestamps([row.at for row in rows]),
        "deadlines": arrays.intervals([row.deadline for row in rows]),
        "tags": arrays.texts([_array_text(row.tags) for row in rows]),
        "correlation_ids": arrays.texts([row.correlation_id for row in rows]),
        "triggers": arrays.texts([row.trigger for row in rows]),
    }


def _array_text(tags: tuple[str, ...]) -> str | None:
    if not tags:
        return None
    return "{" + ",".join('"' + tag.replace("\\", "\\\\").replace('"', '\\"') + '"' for tag in tags) + "}"


def cancel(run_id: UUID, reason: str | None, *, error: str, payload: str, who: str | None = None) -> Op[RunRow | None]:
    """Cancel a run and its live descendants; the run afterwards, None when there is none.

    `error` is the JSON of a run that ends here, `payload` the message to those who wait for it. `who` is for the audit.
    """
    params = {"run_id": run_id, "reason": reason, "error": error, "payload": payload, "who": who}
    yield from _cascade("run_cancel", params)
    return (yield from get([run_id])).get(run_id)


def pause(run_id: UUID, reason: str | None, *, who: str | None = None) -> Op[RunRow | None]:
    """Pause a run and its live descendants; the run afterwards, None when there is none."""
    yield from _cascade("run_pause", {"run_id": run_id, "reason": reason, "who": who})
    return (yield from get([run_id])).get(run_id)


def resume(run_id: UUID, *, who: str | None = None) -> Op[tuple[RunRow | None, bool]]:
    """Resume a paused or parked run and its paused descendants.

    The run afterwards, None when there is none, and whether it had ended before: it may have ended since, too.
    """
    live = yield from _cascade("run_resume", {"run_id": run_id, "who": who})
    return (yield from get([run_id])).get(run_id), not live


def _cascade(statement: str, params: dict[str, Any]) -> Op[bool]:
    """Lock what is there, then act on it in a statement that sees it as it is; again until nothing new is found.

    Whether the run itself was there, and had not ended.
    """
    live = audited = False
    for _ in range(_CASCADE_ROUNDS):
        yield Begin()
        [(among,)] = yield Statement("run_lock", {"run_id": params["run_id"]})
        [(found, told)] = yield Statement(statement, params | {"among": arrays.uuids(among or ()), "tell": not audited})
        yield Commit()
        audited = audited or told
        live = live or params["run_id"] in (among or ())
        if not found:
            break
    return live


def retry(
    run_id: UUID,
    *,
    payload: str,
    who: str | None,
    action: str = "retry",
    subject: str | None = None,
    reason: str | None = None,
) -> Op[bool]:
    """Make a failed run ready again, with a RETRY message; whether it was failed. The rest is for the audit."""
    params = {"run_id": run_id, "payload": payload, "who": who, "action": action, "subject": subject, "reason": reason}
    return bool((yield Statement("run_retry", params)))


def step_order(
    run_id: UUID, *, payload: str, who: str | None, action: str, subject: str, reason: str | None
) -> Op[bool]:
    """Send a RETRY message about one command, `subject`, to a run that has not ended; whether there is such a run."""
    params = {"run_id": run_id, "payload": payload, "who": who, "action": action, "subject": subject, "reason": reason}
    return bool((yield Statement("run_step", params)))


def accept(run_id: UUID, *, payload: str, who: str | None, reason: str | None) -> Op[bool]:
    """Make a parked run ready again, with an ACCEPT message; whether it was parked."""
    params = {"run_id": run_id, "payload": payload, "who": who, "reason": reason}
    return bool((yield Statement("run_accept", params)))


def set_deadline(run_id: UUID, lasts: timedelta, *, who: str | None = None) -> Op[bool]:
    """Set a deadline `lasts` from now by the database's clock; whether there is such a run that has not ended."""
    return bool((yield Statement("run_deadline", {"run_id": run_id, "lasts": lasts, "who": who})))
