"""Where sealed texts become plain ones for a client, and plain ones sealed.

What cannot be opened stays sealed: it is shown as "encoded with ..." and fails nobody who only looks. The invariant: a
value that is asked for by its type is never such a text (`Snapshot.output`, `result`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import attrs

from flowgen.core.entries import Entry
from flowgen.core.sealing import Seal
from flowgen.core.states import Status
from flowgen.postgres.rows import Ended, NewRun, RunRow

__all__ = ["opened_end", "opened_entries", "opened_row", "sealed_runs"]


def sealed_runs(seal: Seal | None, rows: Sequence[NewRun]) -> Sequence[NewRun]:
    """The rows as they are stored. Raises CodecError that names the run."""
    if seal is None:
        return rows
    return [attrs.evolve(row, input=seal.closed(row.input, f"the input of {row.name}")) for row in rows]


def opened_row(seal: Seal | None, row: RunRow) -> RunRow:
    """The row as a client shows it."""
    if seal is None:
        return row
    return attrs.evolve(
        row,
        input=seal.readable(row.input) or row.input,
        output=seal.readable(row.output),
        error=_opened_error(seal.readable, seal, row.status, row.error),
        progress=seal.readable(row.progress),
        reports=seal.readable(row.reports),
    )


def opened_end(seal: Seal | None, ended: Ended, what: str) -> Ended:
    """The end of a run as it was before it was stored. Raises CodecError that names it."""
    if seal is None:
        return ended

    def opened(text: str | None) -> str | None:
        return None if text is None else seal.opened(text, what)

    error = _opened_error(opened, seal, ended.status, ended.error)
    return attrs.evolve(ended, output=opened(ended.output), error=error)


def opened_entries(seal: Seal | None, entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """Entries as a client shows them."""
    if seal is None:
        return tuple(entries)
    return tuple([attrs.evolve(entry, value=seal.readable(entry.value)) for entry in entries])


def _opened_error(opened: Callable[[str | None], str | None], seal: Seal, status: int, error: str | None) -> str | None:
    if error is not None and status == Status.PARKED:
        return seal.open_reason(error)
    if error is not None and status == Status.CANCELLED:
        return seal.open_cancellation(error)
    return opened(error)
