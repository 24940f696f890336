"""Which runs, in which order: what a caller may ask of `list` and `count`, checked before anything is sent.

The invariant: pages that are taken with `after=` neither repeat nor miss a run that stays where it sorts.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias, get_args
from uuid import UUID

import attrs

from flowgen.core import ids
from flowgen.core.definitions import Definition
from flowgen.core.names import check_name
from flowgen.core.states import RunKind, RunStatus, Status, public
from flowgen.errors import DefinitionError
from flowgen.postgres.observe import Filter, Sort
from flowgen.postgres.rows import RunRow

__all__ = ["MAX_LIMIT", "RunId", "RunQuery", "RunSort", "candidates", "cursor_of"]

RunId: TypeAlias = str | UUID
"""A run's id (the caller's, or the text of its UUID), or its UUID."""

RunSort = Literal[
    "created_at", "-created_at", "started_at", "-started_at", "finished_at", "-finished_at",
    "name", "-name", "status", "-status",
]  # fmt: skip

MAX_LIMIT: Final = 10_000
_SORTS: Final = get_args(RunSort)


@attrs.frozen(kw_only=True)
class RunQuery:
    """Which runs: every condition that is given must hold, and of several values any.

    `parent` is the id of the run that made them, `root_only` leaves out all that have one, `tags` must all be there.
    `sort` goes down with a "-"; runs without the time sort last. `after` is the `cursor` of the page before.
    """

    status: RunStatus | str | Iterable[RunStatus | str] | None = None
    name: str | Definition[..., Any, Any] | Iterable[str | Definition[..., Any, Any]] | None = None
    kind: RunKind | str | None = None
    parent: RunId | None = None
    root_only: bool = False
    queue: str | Iterable[str] | None = None
    tags: str | Iterable[str] | None = None
    sort: RunSort = "-created_at"
    limit: int = 50
    offset: int = 0
    after: str | None = None

    def filter(self, schema: str) -> Filter:
        """For the store. Raises DefinitionError that says what does not fit."""
        return Filter(
            statuses=_statuses(self.status),
            names=None if self.name is None else tuple(_name(each) for each in _several(self.name, str | Definition)),
            kind=_kind(self.kind),
            parents=None if self.parent is None else candidates(schema, self.parent),
            root_only=self.root_only,
            queues=None if self.queue is None else tuple(check_name(each, "a queue") for each in _several(self.queue)),
            tags=None if self.tags is None else tuple(check_name(each, "a tag") for each in _several(self.tags)),
        )

    def order(self) -> Sort:
        """For the store. Raises DefinitionError for an unknown sort or a cursor of another one."""
        if self.sort not in _SORTS:
            raise DefinitionError(f"sort is {self.sort!r}: give one of {', '.join(_SORTS)}")
        key: Any = self.sort.removeprefix("-")
        after = None if self.after is None else _read_cursor(self.after, self.sort)
        return Sort(key, self.sort.startswith("-"), after)

    def window(self) -> tuple[int, int]:
        """Limit and offset. Raises DefinitionError when they are out of range."""
        limits: tuple[tuple[str, Any, int, int], ...] = (
            ("limit", self.limit, 1, MAX_LIMIT),
            ("offset", self.offset, 0, 1 << 40),
        )
        for what, value, least, most in limits:
            if type(value) is not int or not least <= value <= most:
                raise DefinitionError(f"{what} is {value!r}: give {least} to {most}")
        return self.limit, self.offset


def candidates(schema: str, run_id: RunId) -> tuple[UUID, ...]:
    """The UUIDs that an id may mean, the likeliest first: a caller's id may look like a UUID.

    Raises DefinitionError for what is no id.
    """
    if isinstance(run_id, UUID):
        return (run_id,)
    if not isinstance(run_id, str) or not run_id:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DefinitionError(f"a run is named by its id (a string) or its UUID, not by {run_id!r}")
    try:
        return ids.candidates(schema, run_id)
    except UnicodeEncodeError:
        raise DefinitionError(f"the run id {run_id!r} has lone surrogates, so no run has it") from None


def cursor_of(row: RunRow, sort: str) -> str:
    """What continues after this run."""
    value = getattr(row, sort.removeprefix("-"))
    shown = value.isoformat() if isinstance(value, datetime) else value
    text = json.dumps([sort, shown, row.run_id.hex], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _read_cursor(cursor: str, sort: str) -> tuple[datetime | str | int | None, UUID]:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        of, value, run_id = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        if value is not None and sort.endswith("_at"):
            value = datetime.fromisoformat(value)
            fits = value.tzinfo is not None
        else:
            fits = isinstance(value, {"name": str, "status": int}.get(sort.removeprefix("-"), type(None)))
        uuid = UUID(hex=run_id)
    except (ValueError, TypeError, AttributeError):
        raise DefinitionError(
            f"after is {str(cursor)[:80]!r}, which is no cursor of a page: give page.cursor"
        ) from None
    if of != sort or not fits:
        raise DefinitionError(f"after is a cursor of sort {of!r}, and sort is {sort!r}: keep the sort while paging")
    return value, uuid


def _several(value: Any, one: Any = str) -> tuple[Any, ...]:
    return (value,) if isinstance(value, one) or not isinstance(value, Iterable) else tuple(value)


def _name(name: object) -> str:
    return name.name if isinstance(name, Definition) else check_name(name, "a name")


def _statuses(status: Any) -> tuple[int, ...] | None:
    if status is None:
        return None
    wanted: set[RunStatus] = set()
    for each in _several(status):
        try:
            wanted.add(RunStatus(each))
        except ValueError:
            raise DefinitionError(f"status is {each!r}: give {', '.join(RunStatus)}") from None
    return tuple(int(stored) for stored in Status if public(stored) in wanted)


def _kind(kind: Any) -> str | None:
    if kind is None:
        return None
    try:
        return str(RunKind(kind))
    except ValueError:
        raise DefinitionError(f"kind is {kind!r}: give {', '.join(RunKind)}") from None
