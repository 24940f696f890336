"""The history: written by flushes, read in pages.

    flush(session, batch) -> Op[FlushResult]                       one commit of a worker
    halve(batch) -> tuple[FlushBatch, FlushBatch] | None           for a flush that fails with 22, 23 or 54
    page(run_id, base=, prologue=, after=-1, ...) -> Op[Sequence[Entry]]   in index order; empty: that was all
    read_back(run_ids) -> Op[Mapping[UUID, Stored]]                what landed, after `workers.resolve_unknown`
    parse_history(cell) -> list[Entry]                             a cell of a claim
    entry_params(entries) -> dict                                  entries as parameters, for statements of this room

It never updates an entry, never retries and never reads a clock: `recorded_at` and due times are the database's. The
invariant: a flush writes everything or, for each run that is refused, nothing of it, and nothing at all once the
session's lease is over. A run of which an update is neither in `landed` nor in `skipped` is no longer ours.

Call a flush on an autocommit connection. On a transient error give the same batch again, after `resolve_unknown` when
the error was a lost connection.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any
from uuid import UUID

import attrs

from flowgen.core.entries import Entry
from flowgen.core.ids import uuid_of_id
from flowgen.core.states import RunKind
from flowgen.errors import DatabaseError
from flowgen.postgres import arrays
from flowgen.postgres.database import Op, Statement, utc
from flowgen.postgres.effects import effects_json
from flowgen.postgres.rows import FlushBatch, FlushResult, NewRun, RunAction, RunUpdate, ScheduleChange, Session

__all__ = ["Stored", "entry_params", "flush", "halve", "page", "parse_history", "read_back"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EXACT = 2**32 * 10**6  # until the year 2106 a float tells one microsecond from the next
_ENDS = frozenset({RunAction.COMPLETE, RunAction.FAIL, RunAction.CANCEL})
_NONE: frozenset[UUID] = frozenset()
_URGENT = 16
_UNWINDING = 32
_UNDOING = 64
_LOCKED = "55P03"
_RUN = attrgetter("run_id.int")
_PAGE_ENTRIES = 5000
_PAGE_BYTES = 4 << 20


@attrs.frozen
class Stored:
    """What the store holds of a run: compare `last_index`, `claim` and `owner` with what was sent."""

    status: int
    owner: UUID | None
    claim: int
    last_index: int
    """Of its highest entry; -1 when there is none."""


def flush(session: Session, batch: FlushBatch) -> Op[FlushResult]:
    """Commit a batch. Raises DatabaseError; the batch is then not written, or unknown when the connection was lost."""
    params: dict[str, Any] = {"session": session.id, "epoch": session.epoch}
    params |= entry_params(batch.entries)
    params["c_run"] = arrays.uuids([run_id for run_id, _ in batch.consumed])
    params["c_id"] = arrays.int8s([message for _, message in batch.consumed])
    if not (batch.updates or batch.children or batch.schedules or batch.effects):
        rows = yield Statement("flush_entries", params)
        fenced, now, *due = rows[0]
        return FlushResult(fenced=fenced, skipped=_NONE, due=due_times(*due), landed={}, now=utc(now))
    params |= _row_params(batch.updates)
    if batch.children or batch.schedules or batch.effects:
        params |= _child_params(batch.children)
        params["schedules"] = schedules_json(batch.schedules) if batch.schedules else None
        params["effects"] = effects_json(batch.effects) if batch.effects else None
        rows = yield Statement("flush_all", params)
    else:
        try:
            rows = yield Statement("flush_runs", params | {"eager": True})
        except DatabaseError as error:
            if error.sqlstate != _LOCKED:
                raise
            rows = yield Statement("flush_runs", params | {"eager": False})
    fenced, now, due_run, due_index, due_at, skipped, landed, statuses, adopted = rows[0]
    return FlushResult(
        fenced=fenced,
        skipped=frozenset(skipped or ()),
        due=due_times(due_run, due_index, due_at),
        landed=dict(zip(landed or (), statuses or (), strict=True)),
        now=utc(now),
        adopted=frozenset(adopted or ()),
    )


def due_times(
    runs: list[UUID] | None, indexes: list[int] | None, times: list[datetime] | None
) -> Mapping[tuple[UUID, int], datetime]:
    if not runs:
        return {}
    return dict(zip(zip(runs, indexes or (), strict=True), times or (), strict=True))


def entry_params(entries: Sequence[tuple[UUID, Entry]]) -> dict[str, Any]:
    """The parameters `e_*`; kind, status and named go as one number."""
    runs, found = zip(*entries, strict=True) if entries else ((), ())
    return {
        "e_run": arrays.uuids(runs),
        "e_index": arrays.int4s([entry.index for entry in found]),
        "e_facts": arrays.int4s([entry.kind + 16 * (entry.status or 0) + 256 * entry.named for entry in found]),
        "e_key": arrays.texts([entry.key for entry in found]),
        "e_fingerprint": arrays.texts([entry.fingerprint for entry in found]),
        "e_attempt": arrays.int4s([entry.attempt for entry in found]),
        "e_value": arrays.texts([entry.value for entry in found]),
        "e_due": arrays.timestamps([entry.due_at for entry in found]),
        "e_delay": arrays.intervals([entry.delay for entry in found]),
    }


def _action(update: RunUpdate) -> int:
    return update.action + _URGENT * update.urgent + _UNWINDING * update.unwinding + _UNDOING * update.undoing


def _sparse(numbers: list[int]) -> Sequence[int | None]:
    """A column that holds 0 where it holds nothing, and that a statement reads NULL of as 0."""
    return numbers if any(numbers) else ()


def _row_params(updates: Sequence[RunUpdate]) -> dict[str, Any]:
    rows = sorted(updates, key=_RUN)
    assert len(set(map(_RUN, rows))) == len(rows), "a run is updated at most once in a flush"
    actions = [_action(update) for update in rows]
    letters = Counter(
        [update.notify_parent for update in rows if update.notify_parent is not None and update.action in _ENDS]
    )
    others = letters.keys() - {update.run_id for update in rows} if letters else ()
    if others:
        told = [RunUpdate(run_id=parent, claim=0, action=RunAction.SET) for parent in others]
        rows = sorted([*rows, *told], key=_RUN)
        actions = [0 if update.run_id in others else _action(update) for update in rows]
    return {
        "r_run": arrays.uuids([update.run_id for update in rows]),
        "r_action": arrays.int4s(actions),
        "r_claim": arrays.int4s([update.claim for update in rows]),
        "r_due": arrays.timestamps([update.due_at for update in rows]),
        "r_delay": arrays.intervals([update.delay for update in rows]),
        "r_mail_read": arrays.int4s(_sparse([update.mail_read for update in rows])),
        "r_wake": arrays.int4s(_sparse([update.wake_at_mail for update in rows])),
        "r_base": arrays.int4s([update.base for update in rows]),
        "r_prologue": arrays.int4s([update.prologue for update in rows]),
        "r_output": arrays.texts([update.output for update in rows]),
        "r_error": arrays.texts([update.error for update in rows]),
        "r_input": arrays.texts([update.input for update in rows]),
        "r_progress": arrays.texts([update.progress for update in rows]),
        "r_reports": arrays.texts([update.reports for update in rows]),
        "r_lasts": arrays.intervals([update.lasts for update in rows]),
        "r_parent": arrays.uuids([update.notify_parent for update in rows]),
        "r_parent_key": arrays.texts([update.parent_key for update in rows]),
        "r_letters": arrays.int4s([letters[update.run_id] for update in rows] if letters else ()),
        "r_closed": arrays.int4s([update.closed for update in rows]),
    }


def _child_params(children: Sequence[NewRun]) -> dict[str, Any]:
    facts = [(c.kind == RunKind.TASK) | c.detached << 1 | c.owned << 2 for c in children]
    tags = [json.dumps(c.tags) if c.tags else None for c in children]
    return {
        "k_run": arrays.uuids([c.run_id for c in children]),
        "k_id": arrays.texts([c.id for c in children]),
        "k_facts": arrays.int4s(facts),
        "k_name": arrays.texts([c.name for c in children]),
        "k_queue": arrays.texts([c.queue for c in children]),
        "k_priority": arrays.int4s([c.priority for c in children]),
        "k_input": arrays.texts([c.input for c in children]),
        "k_at": arrays.timestamps([c.at for c in children]),
        "k_delay": arrays.intervals([c.delay for c in children]),
        "k_deadline": arrays.intervals([c.deadline for c in children]),
        "k_tags": arrays.texts(tags),
        "k_correlation": arrays.texts([c.correlation_id for c in children]),
        "k_parent_correlation": arrays.texts([c.parent_correlation_id for c in children]),
        "k_parent": arrays.uuids([c.parent_id for c in children]),
        "k_parent_key": arrays.texts([c.parent_key for c in children]),
        "k_root": arrays.uuids([c.root_id for c in children]),
        "k_depth": arrays.int4s([c.depth for c in children]),
        "k_trigger": arrays.texts([c.trigger for c in children]),
    }


def schedules_json(changes: Iterable[tuple[UUID | None, ScheduleChange]]) -> str:
    """Schedule changes as the store takes them. A schedule's id is derived, so one that comes back repeats no tick."""
    rows: list[dict[str, Any]] = []
    for run_id, change in changes:
        row: dict[str, Any] = {"run": str(run_id) if run_id else None, "target": change.target, "name": change.name}
        if change.cron is not None:
            if change.next_at is None:
                raise ValueError(f"schedule {change.name!r} of {change.target!r} has no next_at")
            row |= attrs.asdict(change)
            row["next_at"] = change.next_at.isoformat()
            row["schedule_id"] = str(uuid_of_id("schedule", f"{change.target}\x1f{change.name}"))
        rows.append(row)
    return json.dumps(rows)


def halve(batch: FlushBatch) -> tuple[FlushBatch, FlushBatch] | None:
    """Two batches that hold all of a run's part together; None when it is one run's.

    A child's end and the parent's own update may part: each half is a complete flush.
    """
    runs: dict[UUID, None] = {}
    for run_id, _ in batch.entries:
        runs[run_id] = None
    for update in batch.updates:
        runs[update.run_id] = None
    for child in batch.children:
        if child.parent_id is not None:
            runs[child.parent_id] = None
    for run_id, _ in batch.consumed:
        runs[run_id] = None
    for run_id, _ in (*batch.schedules, *batch.effects):
        runs[run_id] = None
    if len(runs) < 2:
        return None
    first = set(list(runs)[: len(runs) // 2])
    return _part(batch, first, wanted=True), _part(batch, first, wanted=False)


def _part(batch: FlushBatch, runs: set[UUID], *, wanted: bool) -> FlushBatch:
    return FlushBatch(
        entries=[item for item in batch.entries if (item[0] in runs) is wanted],
        updates=[update for update in batch.updates if (update.run_id in runs) is wanted],
        children=[child for child in batch.children if (child.parent_id in runs) is wanted],
        consumed=[item for item in batch.consumed if (item[0] in runs) is wanted],
        schedules=[item for item in batch.schedules if (item[0] in runs) is wanted],
        effects=[item for item in batch.effects if (item[0] in runs) is wanted],
    )


def page(
    run_id: UUID,
    *,
    base: int,
    prologue: int,
    after: int = -1,
    limit: int = _PAGE_ENTRIES,
    max_bytes: int = _PAGE_BYTES,
) -> Op[Sequence[Entry]]:
    """The entries behind index `after`, at least one when there is one: until `limit` of them or `max_bytes`."""
    rows = yield Statement(
        "page",
        {"run": run_id, "base": base, "prologue": prologue, "after": after, "limit": limit, "bytes": max_bytes},
    )
    entries = [Entry(*row) for row in rows]
    if entries and rows[0][-1].tzinfo is not UTC:
        for entry in entries:
            entry.recorded_at = utc(entry.recorded_at)  # type: ignore[arg-type]  # it is stored
    return entries


def read_back(run_ids: Iterable[UUID]) -> Op[Mapping[UUID, Stored]]:
    """What the store holds of these runs."""
    rows = yield Statement("read_back", {"runs": arrays.uuids(run_ids)})
    return {
        run_id: Stored(status, owner, claim, -1 if last is None else last)
        for run_id, status, owner, claim, last in rows
    }


def instant(microseconds: int | None) -> datetime | None:
    """An aware datetime from a cell."""
    if microseconds is None:
        return None
    if 0 <= microseconds < _EXACT:
        return datetime.fromtimestamp(microseconds / 1e6, UTC)
    return _EPOCH + timedelta(microseconds=microseconds)


def parse_history(cell: str | None) -> list[Entry]:
    """The entries of a cell, in index order."""
    if not cell:
        return []
    return [
        Entry(index, kind, key, fingerprint, status, attempt, value, instant(due), None, named, instant(recorded))
        for index, kind, key, fingerprint, status, attempt, due, named, value, recorded in json.loads(cell)
    ]
