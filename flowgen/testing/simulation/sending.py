"""A signal of one run to another: sent with the outcome of its command, or not at all.

The invariant: the sender's entries are in the commit of the message, and in none when there is nobody to send it to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flowgen.core.entries import Entry, MessageKind
from flowgen.core.states import FINAL
from flowgen.postgres.messages import Sent, SignalOut
from flowgen.postgres.rows import Session

if TYPE_CHECKING:
    from flowgen.testing.simulation.store import Store

__all__ = ["send"]


def send(store: Store, session: Session, claim: int, signal: SignalOut, entries: Sequence[Entry]) -> Sent:
    """One commit."""
    sender = store.runs[signal.sender]
    if not store.holds(session):
        return Sent("fenced", store.now)
    if sender.owner != session.id or sender.claim != claim:
        return Sent("lost", store.now)
    target = next((store.runs[run_id] for run_id in signal.to if run_id in store.runs), None)
    if target is None:
        return Sent("missing", store.now)
    if target.status in FINAL:
        return Sent("ended", store.now, target.new.name, int(target.status))
    store.insert(session, [(sender.run_id, entry) for entry in entries])
    store.tell(target.run_id, signal.name, signal.payload, urgent=True, kind=MessageKind.SIGNAL)
    return Sent("sent", store.now, target.new.name, int(target.status))
