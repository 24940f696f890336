"""What the client gives back: frozen snapshots of runs, pages of them, and what is recorded of one.

A snapshot never changes; `refresh()` gives a new one. Payloads are decoded when they are read, so a list that holds one
that cannot be decoded still renders. `Run` and `AsyncRun` differ in who waits, and in nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, Protocol, TypeAlias, cast, overload
from uuid import UUID

import attrs
from typing_extensions import TypeVar

from flowgen.core import codec
from flowgen.core.definitions import Definition
from flowgen.core.durations import Duration
from flowgen.core.entries import Entry, EntryKind, OutcomeKind
from flowgen.core.failures import failure_from_json
from flowgen.core.sealing import words
from flowgen.core.states import Request, RunKind, RunStatus, Status, public
from flowgen.errors import Failure
from flowgen.postgres.rows import RunRow

__all__ = ["AsyncRun", "HistoryItem", "Page", "Reading", "Run", "Snapshot", "failure_of", "history_items"]

T_co = TypeVar("T_co", covariant=True, default=Any)
R_co = TypeVar("R_co", covariant=True, bound="Snapshot[Any]", default="Run[Any]")


Reading: TypeAlias = RunRow | Callable[[], RunRow]
"""A run as it was when it was read, or what makes it of what was written: of a thousand runs few are ever looked at."""


def _read(reading: Reading) -> RunRow:
    return reading if isinstance(reading, RunRow) else reading()


@attrs.frozen(kw_only=True)
class Snapshot(Generic[T_co]):
    """A run as it was when it was read."""

    _reading: Reading = attrs.field(repr=False, eq=_read)
    attached: bool = False
    """Of a start: the run existed already."""
    definition: Definition[..., Any, T_co] | None = attrs.field(default=None, eq=False, repr=False)

    @property
    def row(self) -> RunRow:
        if isinstance(self._reading, RunRow):
            return self._reading
        row = self._reading()
        object.__setattr__(self, "_reading", row)
        return row

    @property
    def id(self) -> str:
        """The caller's id, else the text of the UUID."""
        return self.row.id if self.row.id is not None else str(self.row.run_id)

    @property
    def uuid(self) -> UUID:
        return self.row.run_id

    @property
    def name(self) -> str:
        """Of the definition."""
        return self.row.name

    @property
    def kind(self) -> RunKind:
        return RunKind(self.row.kind)

    @property
    def status(self) -> RunStatus:
        return public(self.row.status)

    @property
    def requested(self) -> str | None:
        """What the run is asked for and has not done yet: "cancel" or "pause"."""
        return Request(self.row.request).name.lower() if self.row.request else None

    @property
    def queue(self) -> str:
        return self.row.queue

    @property
    def priority(self) -> int:
        return self.row.priority

    @property
    def parent_id(self) -> UUID | None:
        return self.row.parent_id

    @property
    def root_id(self) -> UUID:
        """Of a root: its own."""
        return self.row.root_id

    @property
    def correlation_id(self) -> str | None:
        return self.row.correlation_id

    @property
    def tags(self) -> tuple[str, ...]:
        return self.row.tags

    @property
    def input(self) -> Any:
        """The arguments by parameter name, as plain JSON values, or which codec they are encoded with.

        Raises CodecError when they cannot be read.
        """
        return words(self.row.input) or codec.decode(self.row.input, what=f"the input of {self.id}")

    @property
    def output(self) -> T_co | None:
        """The result of a completed run, else None. Raises CodecError when it cannot be read as its type.

        Of a run whose definition is not known here it may be which codec it is encoded with.
        """
        if self.row.output is None or self.row.status != Status.COMPLETED:
            return None
        if self.definition is None and (encoded := words(self.row.output)) is not None:
            told: Any = encoded
            return cast("T_co", told)
        annotation = Any if self.definition is None else self.definition.function.result_type
        output: T_co = codec.decode(self.row.output, annotation, what=f"the result of {self.id}")
        return output

    @property
    def error(self) -> Failure | None:
        """What a failed run failed with; of a cancelled or parked one the reason; else None."""
        return failure_of(self.row.status, self.row.error)

    @property
    def attempt(self) -> int:
        return self.row.attempt

    @property
    def recoveries(self) -> int:
        """Claims after a lost lease without progress since the last."""
        return self.row.recoveries

    @property
    def progress(self) -> Any:
        """What the run said last with SetProgress, as plain JSON values, or which codec it is encoded with.

        Of a plain task what its function said: `done` and `total` of `ctx.progress`, `heartbeat` of `ctx.heartbeat`.
        """
        text = self.row.progress
        return None if text is None else words(text) or codec.decode(text, what=f"the progress of {self.id}")

    @property
    def step_progress(self) -> Mapping[str, Any]:
        """What the steps that a worker calls now said last of their progress, by their keys; empty when none did.

        Of a workflow only: a plain task says it in `progress`.
        """
        text = self.row.reports
        if text is None or self.row.status != Status.RUNNING or words(text):
            return {}
        reports: Mapping[str, Any] = codec.decode(text, what=f"the progress of the steps of {self.id}")
        return reports

    @property
    def progress_at(self) -> datetime | None:
        """When the run, or a function of it, gave its last sign of life or progress, by the database's clock."""
        return self.row.progress_at

    @property
    def created_at(self) -> datetime:
        return self.row.created_at

    @property
    def started_at(self) -> datetime | None:
        return self.row.started_at

    @property
    def finished_at(self) -> datetime | None:
        return self.row.finished_at

    @property
    def due_at(self) -> datetime | None:
        """Since when a pending run is ready, or when a delayed or waiting one wakes at the latest."""
        return self.row.due_at

    @property
    def deadline(self) -> datetime | None:
        return self.row.deadline

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {self.name} {self.status}>"


class Client(Protocol):
    """What a `Run` needs of its client."""

    def _result_of(self, run: Snapshot[T_co], timeout: Duration | None) -> T_co: ...
    def _refreshed(self, run: Run[T_co]) -> Run[T_co]: ...


class AsyncClient(Protocol):
    """What an `AsyncRun` needs of its client."""

    async def _result_of(self, run: Snapshot[T_co], timeout: Duration | None) -> T_co: ...
    async def _refreshed(self, run: AsyncRun[T_co]) -> AsyncRun[T_co]: ...


@attrs.frozen(kw_only=True, repr=False)
class Run(Snapshot[T_co]):
    """A run as it was when it was read, with the client that read it."""

    client: Client = attrs.field(eq=False)
    # A run is a part of its client: it may call what the client shows to nobody else.

    def result(self, timeout: Duration | None = None) -> T_co:
        """Wait for the run to end and give its result.

        Raises RunFailed, RunCancelled, or RunNotFinished when `timeout` passes first.
        """
        return self.client._result_of(self, timeout)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]

    def refresh(self) -> Run[T_co]:
        """The run as it is now. Raises RunNotFound when it is gone."""
        return self.client._refreshed(self)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


@attrs.frozen(kw_only=True, repr=False)
class AsyncRun(Snapshot[T_co]):
    """The same for the async client."""

    client: AsyncClient = attrs.field(eq=False)
    # As in Run.

    async def result(self, timeout: Duration | None = None) -> T_co:
        """Wait for the run to end and give its result.

        Raises RunFailed, RunCancelled, or RunNotFinished when `timeout` passes first.
        """
        return await self.client._result_of(self, timeout)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]

    async def refresh(self) -> AsyncRun[T_co]:
        """The run as it is now. Raises RunNotFound when it is gone."""
        return await self.client._refreshed(self)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]


def failure_of(status: int, error: str | None) -> Failure | None:
    """The stored error of a failed, cancelled or parked run as a Failure."""
    if error is None:
        return None
    if (encoded := words(error)) is not None:
        return Failure("CodecError", encoded)
    if status == Status.FAILED:
        return failure_from_json(error)
    details = _object(error)
    reason = str(details.get("reason") or "")
    if status == Status.CANCELLED:
        return Failure("Cancelled", reason, "", details)
    message = str(details.get("detail") or "")
    message = words(json.dumps(message, ensure_ascii=False)) or message
    return Failure(_PARKED.get(reason, reason or "Parked"), message, "", details)


def _object(text: str) -> Mapping[str, Any]:
    try:
        said: Any = json.loads(text)
    except (ValueError, RecursionError):
        said = None
    return cast("dict[str, Any]", said) if isinstance(said, dict) else {}


_PARKED = {"diverged": "Divergence", "stuck": "Stuck", "undecodable": "CodecError"}


@attrs.frozen
class Page(Generic[R_co]):
    """A page of runs: iterable, with a length. `cursor` continues after it and is None at the end."""

    runs: tuple[R_co, ...]
    cursor: str | None = None

    def __iter__(self) -> Iterator[R_co]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    @overload
    def __getitem__(self, at: int) -> R_co: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[R_co, ...]: ...
    def __getitem__(self, at: int | slice) -> R_co | tuple[R_co, ...]:
        return self.runs[at]


@attrs.frozen(kw_only=True)
class HistoryItem:
    """One entry of a run's history."""

    index: int
    path: str
    """The command's key inside the run: scope and branch path, and its name; empty for facts about the run."""
    kind: str
    """outcome, attempt, started, armed, child, checkpoint, set_aside, ending: what is undone since, or pass: which
    events the passes before were given."""
    command: str | None
    """The kind of the command: step, sleep, invoke, ..."""
    outcome: str | None
    """value, failure, timeout, cancellation or skipped."""
    attempt: int | None
    recorded_at: datetime | None
    due_at: datetime | None
    named: bool
    aside: bool
    """Set aside: it answers no longer."""
    text: str | None = attrs.field(default=None, repr=False)
    """The stored JSON."""

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def value(self) -> Any:
        """What was recorded, as plain JSON values, or which codec it is encoded with; None for a failure."""
        if self.text is None or self.error is not None:
            return None
        return words(self.text) or codec.decode(self.text, what=f"entry {self.index}")

    @property
    def error(self) -> Failure | None:
        """What the command or the attempt failed with."""
        if self.text is None or not (self.kind == "attempt" or self.outcome in ("failure", "cancellation")):
            return None
        status = Status.CANCELLED if self.outcome == "cancellation" else Status.FAILED
        return failure_of(status, self.text)


def history_items(entries: Sequence[Entry], base: int, prologue: int) -> list[HistoryItem]:
    """Entries as items, with what answers no longer marked."""
    aside: set[int] = set()
    below = 0
    for entry in entries:
        if entry.kind == EntryKind.SET_ASIDE:
            said = json.loads(entry.value or "{}")
            aside.update(said.get("indexes", ()))
            below = max(below, said.get("below", 0))
    return [
        HistoryItem(
            index=entry.index,
            path=entry.key,
            kind=EntryKind(entry.kind).name.lower(),
            command=None if entry.fingerprint is None else entry.fingerprint.partition(":")[0],
            outcome=None if entry.status is None else OutcomeKind(entry.status).name.lower(),
            attempt=entry.attempt,
            recorded_at=entry.recorded_at,
            due_at=entry.due_at,
            named=entry.named,
            aside=entry.index in aside
            or (entry.index < below and entry.kind != EntryKind.PASS)
            or _closed(entry, base, prologue),
            text=entry.value,
        )
        for entry in entries
    ]


def _closed(entry: Entry, base: int, prologue: int) -> bool:
    """Whether the entry belongs to a segment that a checkpoint has closed."""
    kept = (entry.named and entry.kind == EntryKind.OUTCOME) or entry.kind in (EntryKind.SET_ASIDE, EntryKind.PASS)
    return prologue <= entry.index < base and not kept
