"""What a client asks of a run and of all that hangs below it, detached children apart.

The invariant: a run that a session owns is only asked; whatever becomes of it is for its owner to write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from flowgen.core.decision import UNWANTED
from flowgen.core.states import Request, Status

if TYPE_CHECKING:
    from flowgen.testing.simulation.store import Store

__all__ = ["cancel", "cancel_children", "pause", "resume"]


def cancel(store: Store, run_id: UUID) -> int:
    """How many runs were asked, or ended at once."""
    return store.cancel_runs(_tree(store, run_id), "enough")


def cancel_children(store: Store) -> int:
    """The cascade, of runs that failed or were cancelled, and what is noted: any worker's janitor does it."""
    changed = 0
    for row in list(store.runs.values()):
        if row.unwanted:
            row.unwanted = False
            changed += store.cancel_runs([row.run_id], UNWANTED)
        if row.cascade:
            row.cascade = False
            children = [child.run_id for child in store.live_children(row)]
            changed += store.cancel_runs(children, "the parent run ended")
    return changed


def pause(store: Store, run_id: UUID) -> None:
    """What runs stops when its calls have ended; what does not run is paused here."""
    for each in _tree(store, run_id):
        row = store.runs[each]
        if row.request or row.status >= Status.PAUSED:
            continue
        if row.status == Status.RUNNING:
            row.request = Request.PAUSE
        else:
            store.move(row, Status.PAUSED, None)


def resume(store: Store) -> None:
    """All that is paused goes on; a request that nobody has followed is taken back."""
    for row in store.runs.values():
        if row.status == Status.PAUSED:
            store.wake(row)
        elif row.request == Request.PAUSE:
            row.request = 0


def _tree(store: Store, run_id: UUID) -> list[UUID]:
    found = [run_id]
    for row in store.runs.values():  # a parent stands before its children
        if row.new.parent_id in found and not row.new.detached:
            found.append(row.run_id)
    return found
