"""What a decision makes of a run's row: how it hangs up, and how it ends."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from flowgen.core import codec
from flowgen.core.decision import Cancelled, Completed, Continued, Failed, Finish, Parked, Restarted, Waits
from flowgen.core.endings import cancellation_to_json
from flowgen.core.failures import failure_to_json
from flowgen.core.settings import Settings
from flowgen.errors import Failure
from flowgen.postgres.rows import ClaimedRun, RunAction, RunUpdate
from flowgen.worker.live import LiveRun

__all__ = ["SUSPECT", "ending", "hanging_up", "is_poison", "parked", "poison", "update"]

SUSPECT = 2
"""Recoveries without progress after which a run is claimed only alone."""
_NAMED = 5
"""Workers that are named in a message."""


def update(run: LiveRun, action: RunAction, **given: Any) -> RunUpdate:
    """A change of the run's own row, under the claim by which it is owned."""
    return RunUpdate(run_id=run.run_id, claim=run.claimed.claim, action=action, **given)


def is_poison(claimed: ClaimedRun, settings: Settings) -> bool:
    """Whether the run ended its workers too often to be tried again."""
    return claimed.recoveries >= SUSPECT + settings.max_recoveries


def end(run: LiveRun, action: RunAction, output: str | None, error: str | None) -> RunUpdate:
    """The change that tells the parent what its child came to; one that did not complete wakes it at once."""
    claimed = run.claimed
    return RunUpdate(
        run_id=run.run_id,
        claim=claimed.claim,
        action=action,
        output=output,
        error=error,
        notify_parent=claimed.parent_id,
        parent_key=claimed.parent_key,
        urgent=action != RunAction.COMPLETE,
    )


def hanging_up(run: LiveRun, waits: Waits) -> RunUpdate:
    """The run waits: for a time, or for so many messages."""
    return update(
        run,
        RunAction.HANG_UP,
        due_at=waits.due_at,
        mail_read=run.mail_read,
        unwinding=run.execution.unwinding,
        undoing=run.execution.undoing,
        wake_at_mail=run.mail_read + waits.messages if waits.messages > 1 else 0,
    )


def ending(run: LiveRun, finish: Finish) -> RunUpdate:
    """The last change of a run here: what it came to."""
    match finish:
        case Completed(output):
            return end(run, RunAction.COMPLETE, output, None)
        case Failed(failure, None):
            return end(run, RunAction.FAIL, None, failure_to_json(failure))
        case Failed(failure, retry_after):
            return update(run, RunAction.RETRY, delay=retry_after, error=failure_to_json(failure))
        case Cancelled():
            return end(run, RunAction.CANCEL, None, cancellation_to_json(finish))
        case Parked(reason, detail):
            return update(run, RunAction.PARK, error=codec.encode({"reason": reason, "detail": detail}))
        case Continued(input):
            return update(run, RunAction.CONTINUE, input=input)
        case Restarted():
            return update(run, RunAction.RELEASE)


def parked(run_id: UUID, claim: int, error: Exception) -> RunUpdate:
    """The change of a run whose row cannot be read."""
    detail = {"reason": "undecodable", "detail": f"{type(error).__name__}: {error}"}
    return RunUpdate(run_id=run_id, claim=claim, action=RunAction.PARK, error=codec.encode(detail))


def poison(claimed: ClaimedRun) -> Failure:
    """The failure of a run that ended its workers."""
    workers = list(claimed.victims)
    named = f", the last of them {', '.join(workers[-_NAMED:])}" if workers else ""
    return Failure(
        "PoisonRun",
        f"{claimed.name} ended its worker {claimed.recoveries} times without any progress in between{named}; it is not "
        "tried again. Look at the workers' logs and memory, then retry the run",
        details={"recoveries": claimed.recoveries, "workers": workers},
    )
