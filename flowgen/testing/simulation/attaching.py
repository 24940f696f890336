"""A child with an author's id: started, or waited for when it exists.

The invariant: the parent's entries are in the commit of the start or of the attachment, and in none when it is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flowgen.core.entries import Entry
from flowgen.core.states import FINAL
from flowgen.postgres.children import Attached
from flowgen.postgres.rows import NewRun, Session
from flowgen.testing.simulation.row import Row

if TYPE_CHECKING:
    from flowgen.testing.simulation.store import Store

__all__ = ["attach"]


def attach(
    store: Store, session: Session, claim: int, child: NewRun, entries: Sequence[Entry], *, wait: bool, blocks: bool
) -> Attached:
    """One commit. `blocks`: the parent goes on only when that run has ended."""
    parent = store.runs[child.parent_id]  # type: ignore[index]  # a child has one
    if not store.holds(session):
        return Attached("fenced", store.now, None, None, {})
    if parent.owner != session.id or parent.claim != claim:
        return Attached("lost", store.now, None, None, {})
    row = store.runs.get(child.run_id)
    if blocks and row is not None and row in _around(store, parent):
        return Attached("circle", store.now, row.new.name, row.new.input, {})
    if row is None:
        store.start(child)
    elif (row.new.name, row.first_input) != (child.name, child.input):
        return Attached("conflict", store.now, row.new.name, row.first_input, {}, len(row.floors) > 1)
    elif (row.new.parent_id, row.new.parent_key) != (child.parent_id, child.parent_key) and wait:
        _wait(store, row, parent, child.parent_key or "")
    due = store.insert(session, [(parent.run_id, entry) for entry in entries])
    return Attached("started" if row is None else "attached", store.now, child.name, child.input, due)


def _wait(store: Store, row: Row, parent: Row, key: str) -> None:
    if row.status in FINAL:
        store.tell(parent.run_id, key, row.letter(row.status), urgent=True)
    else:
        row.waiters.append((parent.run_id, key))


def _around(store: Store, row: Row) -> list[Row]:
    """The run, and all that wait for it, themselves or through others."""
    found = [row]
    for each in found:
        above = [each.new.parent_id, *(waiting_id for waiting_id, _ in each.waiters)]
        found += [store.runs[run_id] for run_id in above if run_id in store.runs and store.runs[run_id] not in found]
    return found
