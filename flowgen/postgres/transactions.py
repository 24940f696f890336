"""The `Transaction` command: a user's writes and the command's outcome in one commit.

    begin(token, idle_timeout=) -> Op[None]                    first, on a connection without autocommit
    finish(session, token, run_id, entries) -> Op[datetime]    last: the outcome, pipelined with COMMIT
    reset() -> Op[None]                                        before another function gets it, in autocommit

Between the two the user's function has the connection. When it raises, roll back and record the failed attempt with a
flush. Never holds a lock of ours while the user's function runs: the fence is taken by the last statement only, and
only until its COMMIT. The invariant: the user's writes are committed if and only if the outcome is. `finish` raises
LeaseLost when the session is fenced, DefinitionError when the function ended the transaction by itself, DatabaseError
otherwise; nothing is committed then, except that a lost connection leaves the commit unknown: `resolve_unknown`, then
`read_back`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from flowgen.core.entries import Entry
from flowgen.failpoints import ARMED, failpoint
from flowgen.postgres.database import Conclude, Op, Statement, utc
from flowgen.postgres.entries import entry_params
from flowgen.postgres.rows import Session

__all__ = ["begin", "finish", "reset"]

_IDLE = timedelta(minutes=1)


def begin(token: str, *, idle_timeout: timedelta = _IDLE) -> Op[None]:
    """Mark the transaction that this statement opens. `token` is random: it tells this transaction from any other."""
    milliseconds = max(1, idle_timeout // timedelta(milliseconds=1))
    yield Statement("transaction_begin", {"token": token, "idle": str(milliseconds)})


def finish(session: Session, token: str, run_id: UUID, entries: Sequence[Entry]) -> Op[datetime]:
    """Record the outcome and commit. Gives `recorded_at`. No other flush of the run is out."""
    params = {"session": session.id, "epoch": session.epoch, "token": token}
    if ARMED:
        failpoint("tx_step.before_commit")
    rows = yield Conclude(
        Statement("transaction_finish", params | entry_params([(run_id, entry) for entry in entries]))
    )
    if ARMED:
        failpoint("tx_step.after_commit")
    return utc(rows[0][0])


def reset() -> Op[None]:
    """Forget what a function left in the session of the connection, which is in autocommit for this."""
    yield Statement("transaction_reset")
