"""Runs as clients read them: one, a page, a count, those that have ended, a history, what holds one up.

Each function is an operation that only reads. The invariant: payloads come as the text that is stored, so one that
cannot be decoded never keeps a list from being shown.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import attrs

from flowgen.core.entries import Entry
from flowgen.postgres import arrays
from flowgen.postgres.database import Op, Statement
from flowgen.postgres.rows import Ended, RunRow

__all__ = [
    "MISSING",
    "Circumstances",
    "Filter",
    "Recorded",
    "Sort",
    "audit",
    "count",
    "ended",
    "get",
    "history",
    "page",
    "why",
]

MISSING = -1
"""Status of an `Ended` for a run that does not exist."""

SortKey = Literal["created_at", "started_at", "finished_at", "name", "status"]

_FIELDS = tuple(each.name for each in attrs.fields(RunRow))
_TAGS = _FIELDS.index("tags")


def _run(columns: Sequence[Any]) -> RunRow:
    fields = dict(zip(_FIELDS, columns, strict=True))
    fields["tags"] = tuple(columns[_TAGS])
    return RunRow(**fields)


def get(run_ids: Sequence[UUID]) -> Op[dict[UUID, RunRow]]:
    """The runs that exist, by UUID."""
    rows = yield Statement("run_get", {"run_ids": arrays.uuids(run_ids)})
    return {row[0]: _run(row) for row in rows}


@attrs.frozen(kw_only=True)
class Filter:
    """Which runs; None is all. `statuses` are the store's, `tags` must all be there."""

    statuses: tuple[int, ...] | None = None
    names: tuple[str, ...] | None = None
    kind: str | None = None
    parents: tuple[UUID, ...] | None = None
    root_only: bool = False
    queues: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None

    def params(self) -> dict[str, Any]:
        return {
            "statuses": None if self.statuses is None else arrays.int4s(self.statuses),
            "names": None if self.names is None else arrays.texts(self.names),
            "kind": self.kind,
            "parents": None if self.parents is None else arrays.uuids(self.parents),
            "root_only": self.root_only,
            "queues": None if self.queues is None else arrays.texts(self.queues),
            "tags": None if self.tags is None else arrays.texts(self.tags),
        }


@attrs.frozen
class Sort:
    """An order, ties by run_id. `after` is the key and the run_id of the last run of the page before."""

    key: SortKey = "created_at"
    down: bool = True
    after: tuple[datetime | str | int | None, UUID] | None = None

    @property
    def by(self) -> str:
        return "time" if self.key.endswith("_at") else self.key

    def params(self) -> dict[str, Any]:
        # A time that is not set sorts last, both ways.
        never = "-infinity" if self.down else "infinity"
        value, run_id = self.after if self.after is not None else (None, None)
        return {
            "sort": self.key,
            "down": self.down,
            "never": never,
            "after_by": ("-" if self.down else "") + self.by,
            "after_id": run_id,
            "after_time": (never if value is None else value) if self.by == "time" else None,
            "after_name": value if self.by == "name" else None,
            "after_status": value if self.by == "status" else None,
        }


def page(filter: Filter, sort: Sort, *, limit: int, offset: int = 0) -> Op[tuple[RunRow, ...]]:
    """At most `limit` runs that match, in order."""
    params = {**filter.params(), **sort.params(), "limit": limit, "offset": offset}
    return tuple([_run(row) for row in (yield Statement("run_list", params))])


def count(filter: Filter) -> Op[int]:
    """How many runs match."""
    [(found,)] = yield Statement("run_count", filter.params())
    return int(found)


def ended(run_ids: Sequence[UUID]) -> Op[tuple[Ended, ...]]:
    """Those that have ended, and, with the status `MISSING`, those that do not exist."""
    rows = yield Statement("run_ended", {"run_ids": arrays.uuids(run_ids)})
    return tuple(
        [
            Ended(run_id=run_id, status=MISSING if status is None else status, output=output, error=error)
            for run_id, status, output, error in rows
        ]
    )


@attrs.frozen
class Recorded:
    """A run's history: every entry in index order, and where its checkpoint stands."""

    base: int
    prologue: int
    entries: tuple[Entry, ...]


def history(run_id: UUID) -> Op[Recorded | None]:
    """All entries of a run, those that were set aside too; None when there is no such run."""
    rows = yield Statement("run_history", {"run_id": run_id})
    if not rows:
        return None
    return Recorded(rows[0][0], rows[0][1], tuple([_entry(row) for row in rows if row[2] is not None]))


def _entry(row: Sequence[Any]) -> Entry:
    _, _, index, kind, key, fingerprint, status, attempt, value, due_at, named, recorded_at = row
    return Entry(index, kind, key, fingerprint, status, attempt, value, due_at, None, named, recorded_at)


def audit(run_id: UUID) -> Op[Sequence[Sequence[Any]]]:
    """What was decided about a run: at, action, subject, who, reason of each, in order."""
    return (yield Statement("run_audit", {"run_id": run_id}))


@attrs.frozen(kw_only=True)
class Circumstances:
    """What decides whether a run goes on, as it was at `now`."""

    now: datetime
    owner: dict[str, Any] | None
    """`host`, `pid`, `started_at`, `live` of the session that owns the run."""
    live_workers: int
    knowing: int
    """Live workers that know the definition."""
    serving: int
    """Of those, the ones that serve the queue."""
    queue_paused: bool
    live_children: int
    child: dict[str, Any] | None
    """`id`, `name`, `status`, `key` of the oldest live child."""
    last_entry: dict[str, Any] | None
    """`key`, `kind`, `due_at`, `attempt`, `value`."""
    messages: int
    reason: str | None
    """Of the request, or of the pause."""
    closed: dict[str, Any] | None
    """`windows` and `opens_at` of the definition, when all of its windows are closed."""


def why(run_id: UUID) -> Op[Circumstances | None]:
    """What holds a run up; None when there is no such run."""
    rows = yield Statement("run_why", {"run_id": run_id})
    if not rows:
        return None
    now, owner, live, knowing, serving, paused, children, child, entry, messages, reason, closed = rows[0]
    return Circumstances(
        now=now,
        owner=None if owner is None else json.loads(owner),
        live_workers=live,
        knowing=knowing,
        serving=serving,
        queue_paused=paused,
        live_children=children,
        child=None if child is None else json.loads(child),
        last_entry=None if entry is None else json.loads(entry),
        messages=messages,
        reason=reason,
        closed=None if closed is None else json.loads(closed),
    )
