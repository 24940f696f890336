"""Waiting for a run to end, and what its end means to who waits.

Polls, ever more rarely, with one question for all waiters of a client (`waiters`); a database that goes away meanwhile
is waited out. The invariant: a wait that makes no headway is never silent: after five seconds it logs why, once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

import attrs

from flowgen.client.plans import Bell, Do, Pause, Plan, ask
from flowgen.client.runs import failure_of
from flowgen.client.sealing import opened_end, opened_row
from flowgen.client.waiters import Ticket, Waiters
from flowgen.client.why import Why, explain
from flowgen.core import codec
from flowgen.core.durations import Duration, as_timedelta
from flowgen.core.sealing import Seal
from flowgen.core.states import Status
from flowgen.errors import DatabaseError, Failure, RunCancelled, RunFailed, RunNotFinished, RunNotFound
from flowgen.postgres import observe
from flowgen.postgres.rows import Ended

__all__ = ["Awaited", "explained", "no_run", "result"]

logger = logging.getLogger("flowgen")

_QUIET: Final = 5.0
"""Seconds of waiting after which `why` is logged."""
_OUTAGE: Final = 60.0
"""Seconds that the database may be away before a wait gives up."""
_RETRY: Final = 0.25


def no_run(schema: str, run_id: object) -> RunNotFound:
    """The error for an id that no run has."""
    return RunNotFound(
        f"no run has the id {str(run_id)!r} in schema {schema!r} (one that is started in a transaction is there when "
        "that has committed)"
    )


def explained(run_id: UUID, seal: Seal | None = None) -> Plan[Why | None]:
    """Why the run is where it is; None when there is none."""
    row = (yield from ask(lambda: observe.get([run_id]))).get(run_id)
    seen = yield from ask(lambda: observe.why(run_id))
    return None if row is None or seen is None else explain(opened_row(seal, row), seen)


@attrs.frozen(kw_only=True)
class Awaited:
    """Which run, and what its waiter knows of it."""

    run_id: UUID
    shown: str
    """Its id, for messages."""
    annotation: Any
    missing: RunNotFound
    """What to raise when there is no such run."""
    first: float = 0.0
    """Seconds until the first look."""
    seal: Seal | None = None


def result(
    run: Awaited, waiters: Waiters, bell: Bell, timeout: Duration | None, clock: Callable[[], float]
) -> Plan[Any]:
    """Wait for the end and give the result; `clock` is monotonic, in seconds.

    Raises RunFailed, RunCancelled, RunNotFound, or RunNotFinished when `timeout` passes first.
    """
    limit = None if timeout is None else as_timedelta(timeout, what="timeout").total_seconds()
    began = clock()
    ticket = waiters.join(run.run_id, bell)
    try:
        if (first := run.first if limit is None else min(run.first, limit)) > 0:
            yield Pause(first, bell)
        ended = yield from _wait(run, ticket, waiters, None if limit is None else began + limit, clock)
    finally:
        waiters.leave(ticket)
    if ended is None:
        why = yield from explained(run.run_id, run.seal)
        if why is None:
            raise run.missing
        raise RunNotFinished(f"run {run.shown} has not ended within {limit:g} s: {why}")
    if ended.status == observe.MISSING:
        raise run.missing
    return outcome(opened_end(run.seal, ended, f"the end of run {run.shown}"), run.shown, run.annotation)


def outcome(ended: Ended, shown: str, annotation: Any) -> Any:
    """What an end means: the value, or RunFailed or RunCancelled raised."""
    if ended.status == Status.COMPLETED:
        return codec.decode(ended.output or "null", annotation, what=f"the result of run {shown}")
    failure = failure_of(ended.status, ended.error)
    if ended.status == Status.CANCELLED:
        raise RunCancelled(shown, None if failure is None else failure.message or None)
    raise RunFailed(shown, failure or Failure("Failure", "no error was recorded"))


def _wait(
    run: Awaited, ticket: Ticket, waiters: Waiters, until: float | None, clock: Callable[[], float]
) -> Plan[Ended | None]:
    began = clock()
    look_at: float | None = began + _QUIET
    away_since: float | None = None
    while True:
        ended, now = ticket.ended, clock()
        if ended is not None:
            return ended
        if until is not None and now >= until:
            # The leader may not have asked for this run yet.
            last = yield from ask(lambda: observe.ended([ticket.run_id]))
            return last[0] if last else None
        if look_at is not None and now >= look_at:
            look_at = None if (yield from _said(run, now - began)) else now + _QUIET
        pause = _QUIET
        if ticket.leading:
            pause = waiters.interval()
            try:
                waiters.deliver((yield Do(lambda: observe.ended(waiters.asked()))))
                away_since = None
            except DatabaseError as error:
                away_since = now if away_since is None else away_since
                if not error.transient or now - away_since > _OUTAGE:
                    raise
                pause = _RETRY
        now = clock()
        pause = min([pause, *(at - now for at in (until, look_at) if at is not None)])
        if pause > 0 and ticket.ended is None:
            yield Pause(pause, ticket.bell)


def _said(run: Awaited, waited: float) -> Plan[bool]:
    """Log why the run is not being run, if it is not; whether that was said."""
    try:
        why = yield from explained(run.run_id)
    except DatabaseError:
        return False
    if why is None or why.code == "running" or why.status.is_final:
        return False
    logger.log(
        logging.WARNING if why.stuck else logging.INFO,
        "waiting for run %s since %.0f s: %s",
        run.shown,
        waited,
        why.sentence,
    )
    return True
