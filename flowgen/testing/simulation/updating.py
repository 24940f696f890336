"""What an update of a commit does to a run's row, as the real flush does it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from flowgen.core.entries import MessageKind
from flowgen.core.states import Request, Status
from flowgen.postgres.rows import NO_DEADLINE, RunAction, RunUpdate
from flowgen.testing.simulation.row import Row

if TYPE_CHECKING:
    from flowgen.testing.simulation.store import Store

__all__ = ["ENDS", "apply"]

ENDS: Final = {
    RunAction.COMPLETE: Status.COMPLETED,
    RunAction.FAIL: Status.FAILED,
    RunAction.CANCEL: Status.CANCELLED,
}


def apply(store: Store, row: Row, update: RunUpdate) -> None:
    """Change the row as the update says, and tell whoever is to be told."""
    action, now = update.action, store.now
    due_at = now + update.delay if update.delay is not None else update.due_at
    if action == RunAction.CONTINUE:
        row.floors.append(update.base or 0)
        row.base, row.prologue, row.attempt, row.created_at = 0, 0, 1, now
        row.new = attrs.evolve(row.new, input=update.input or "{}")
        row.inbox = {number: each for number, each in row.inbox.items() if each.kind != MessageKind.CHILD}
    elif update.base is not None:
        row.base, row.prologue = update.base, update.prologue or 0
        row.prologues[row.floor] = row.prologue
    row.seen = max(row.seen, update.mail_read)
    row.progress = update.progress or row.progress
    if update.lasts is not None:
        row.deadline = None if update.lasts == NO_DEADLINE else now + update.lasts
    if action in (RunAction.HANG_UP, RunAction.CHECKPOINT, RunAction.RETRY, RunAction.CONTINUE):
        row.recoveries = 0
        store.witness.progressed(row)
    status = ENDS.get(action, Status.READY)
    match action:
        case RunAction.CHECKPOINT | RunAction.SET:
            return
        case RunAction.HANG_UP:
            due_at = min(filter(None, (due_at, None if update.undoing else row.deadline)), default=None)
            asked = row.request and not (update.unwinding and row.request == Request.CANCEL)
            if not asked and row.mail == update.mail_read and (due_at is None or due_at > now):
                status = Status.WAITING
                row.due_at = due_at
            row.wake_at_mail = update.wake_at_mail
        case RunAction.RETRY:
            row.attempt += 1
            if not row.request and update.delay:
                status = Status.DELAYED
                row.due_at = due_at if row.deadline is None or due_at is None else min(due_at, row.deadline)
        case RunAction.PAUSE:
            status = Status.READY if row.request == Request.CANCEL else Status.PAUSED
            row.request = 0 if row.request == Request.PAUSE else row.request
        case RunAction.PARK:
            status = Status.PARKED
            row.error = update.error
        case RunAction.COMPLETE | RunAction.FAIL | RunAction.CANCEL:
            row.output, row.error = update.output, update.error
            store.end(row, status)
            return
    if status == Status.READY:
        row.due_at = now
    store.move(row, status, None)
