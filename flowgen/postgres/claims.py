"""How a worker comes by runs, and what makes them ready.

    claim(session, limit, queues=, have=, since=) -> Op[Claimed]   up to `limit` runs, histories and inbox with them
    claim_suspect(session, queues=None) -> Op[Claimed]             one suspect, for a session that owns nothing
    owned(session) -> Op[Mapping[UUID, int]]                       run_id -> claim, after an unknown commit
    release(session, runs=None) -> Op[int | None]                  ready at once, no recovery charged; None: fenced
    promote(limit=500) -> Op[Promoted]                             due sleepers and delayed runs become ready
    hold(limit=1000) -> Op[int]                                    ready runs that nobody serves -> held
    put_back(limit=1000) -> Op[int]                                held runs that somebody serves -> ready
    cancel_runs(run_ids, reason, parent=None) -> Op[int]           by their parent: losers, timed out children
    cancel_children(limit=500) -> Op[int]                          of runs that failed or were cancelled; noted ones

Call them on autocommit connections. They never wait for a row and never complete a run; each takes a batch, and is
called again while it changes something. The invariant: a run is owned by one session at a time, and what is read of it
is read in a snapshot younger than the lock that made it ours.

A claimed run whose `deadline` is not after `Claimed.now` is past it: its owner fails it without running it. One with
`recoveries >= 2 + max_recoveries` is poison. Call `put_back` after registering and with each slow poll (a start may
race with a registration), `hold` when a claim came back short, `cancel_children` after a flush that ended runs as
failed or cancelled and with each slow poll.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import attrs

from flowgen.core.decision import UNWANTED
from flowgen.core.entries import Entry, Message
from flowgen.errors import DatabaseError
from flowgen.postgres import arrays
from flowgen.postgres.database import Op, Statement, utc
from flowgen.postgres.entries import parse_history
from flowgen.postgres.inbox import parse_inbox
from flowgen.postgres.rows import Claimed, ClaimedRun, Have, Session

__all__ = [
    "Promoted",
    "cancel_children",
    "cancel_runs",
    "claim",
    "claim_suspect",
    "hold",
    "owned",
    "promote",
    "put_back",
    "release",
]

RUN_BYTES = 256 << 10
"""A larger history is not read by the claim but in pages, by its run's own task."""
BATCH_BYTES = 16 << 20
"""What the histories of one claim hold at most."""

_TOO_MUCH = ("22", "53", "54")
_ROUNDS = 1000


@attrs.frozen
class Promoted:
    """What a promotion came to."""

    now: datetime
    count: int
    next_due_at: datetime | None
    """Earliest due time that is left; may be past when there is more to promote."""


def claim(
    session: Session,
    limit: int,
    *,
    queues: Sequence[str] | None = None,
    have: Iterable[Have] = (),
    since: datetime | None = None,
) -> Op[Claimed]:
    """Make up to `limit` ready runs this session's. `queues` None: those of the registration.

    `since` leaves out runs that are ready for longer: `Claimed.since` of the last look. Look without it now and then.

    A claim that is too large for the server is repeated by halves; a single run that is still too large comes with
    `entries=None`, to be read in pages, or to be parked as undecodable when that fails too.
    """
    known = json.dumps({str(item.run_id): (item.claim, item.index) for item in have})
    bare = False
    while True:
        params = _params(session, limit, queues, known) | {"bare": bare, "since": since}
        try:
            rows = yield Statement("claim", params)
        except DatabaseError as error:
            if bare or not (error.sqlstate or "").startswith(_TOO_MUCH):
                raise
            limit, bare = max(1, limit // 2), limit == 1
        else:
            return _claimed(rows)


def claim_suspect(session: Session, *, queues: Sequence[str] | None = None) -> Op[Claimed]:
    """Claim one run that was recovered twice without progress. None is given while the session owns anything."""
    rows = yield Statement("claim", _params(session, 1, queues, "{}") | {"suspect": True})
    return _claimed(rows)


def _params(session: Session, limit: int, queues: Sequence[str] | None, have: str) -> dict[str, Any]:
    return {
        "session": session.id,
        "epoch": session.epoch,
        "queues": None if queues is None else arrays.texts(queues),
        "limit": limit,
        "suspect": False,
        "bare": False,
        "have": have,
        "run_bytes": RUN_BYTES,
        "batch_bytes": BATCH_BYTES,
        "since": None,
    }


def _claimed(rows: list[Any]) -> Claimed:
    fenced, busy, now, next_due_at, suspects, since = rows[0][:6]
    return Claimed(
        runs=[_run(row) for row in rows[1:]],
        busy=busy,
        fenced=fenced,
        now=now,
        next_due_at=next_due_at,
        suspects=suspects or 0,
        since=since,
    )


def _run(row: tuple[Any, ...]) -> ClaimedRun:
    (
        run_id, given_id, name, kind, queue, priority, claim, attempt, recoveries, given, correlation_id,
        parent_correlation_id, parent_id, parent_key, root_id, depth, trigger, deadline, created_at, mail, request,
        reason, base, prologue, next_index, partial, history, inbox, floor,
    ) = row[6:]  # fmt: skip
    unreadable: str | None = None
    entries: Sequence[Entry] | None = ()
    messages: Sequence[Message] = ()
    try:
        if history is not None:
            entries = parse_history(history) if history else None
        if inbox:
            messages = parse_inbox(inbox)
    except (ValueError, TypeError, OverflowError) as error:
        unreadable = f"{type(error).__name__}: {error}"
        entries, partial = (), False
    # what is the same for most runs is NULL: a column that is not there costs nobody anything
    return ClaimedRun(
        run_id=run_id,
        id=given_id,
        name=name,
        kind=kind,
        queue=queue,
        priority=priority or 0,
        claim=claim,
        attempt=attempt or 1,
        recoveries=recoveries or 0,
        input=given,
        correlation_id=correlation_id,
        parent_correlation_id=parent_correlation_id,
        parent_id=parent_id,
        parent_key=parent_key,
        root_id=root_id or run_id,
        depth=depth or 0,
        trigger=trigger,
        deadline=deadline,
        created_at=utc(created_at),
        mail=mail or 0,
        request=request or 0,
        reason=reason,
        base=base or 0,
        prologue=prologue or 0,
        next_index=next_index or 0,
        floor=floor or 0,
        entries=entries,
        partial=bool(partial),
        inbox=messages,
        unreadable=unreadable,
    )


def owned(session: Session) -> Op[Mapping[UUID, int]]:
    """Which runs this session owns, with their claim."""
    rows = yield Statement("owned", {"session": session.id})
    return dict(rows)


def release(session: Session, runs: Iterable[UUID] | None = None) -> Op[int | None]:
    """Give runs back at once, all of the session's when `runs` is None. None: the session is fenced.

    A row that somebody has locked is skipped: call again, or leave it to the reaper.
    """
    given = None if runs is None else arrays.uuids(runs)
    rows = yield Statement("release", {"session": session.id, "epoch": session.epoch, "runs": given})
    count: int | None = rows[0][0]
    return count


def promote(limit: int = 500) -> Op[Promoted]:
    """Make delayed and waiting runs ready whose time has come."""
    rows = yield Statement("promote", {"limit": limit})
    return Promoted(*rows[0])


def hold(limit: int = 1000) -> Op[int]:
    """Take ready runs that no live worker can claim out of the ready index."""
    return (yield Statement("hold", {"limit": limit}))[0][0]  # type: ignore[no-any-return]


def put_back(limit: int = 1000) -> Op[int]:
    """Make held runs ready that a live worker can claim."""
    return (yield Statement("put_back", {"limit": limit}))[0][0]  # type: ignore[no-any-return]


def cancel_runs(run_ids: Iterable[UUID], reason: str, *, parent: UUID | None = None) -> Op[int]:
    """Cancel runs on behalf of their parent: those that have not begun end here, the others are asked to.

    With `parent` only its own children: a run that it found under an id is somebody else's. A row that is locked
    elsewhere is left. Gives how many were still to be cancelled before: call again until that is 0.
    """
    ids = sorted(run_ids, key=lambda run_id: run_id.int)
    params = {"runs": arrays.uuids(ids), "reason": reason, "parent": parent}
    return (yield Statement("cancel_some", params))[0][0]  # type: ignore[no-any-return]


def cancel_children(limit: int = 500) -> Op[int]:
    """Cancel the live children, detached ones apart, of runs that failed or were cancelled, until none is found.

    And those that nobody waits for, as the commit of their parent says: see `flowgen.postgres.effects.Unwanted`.
    """
    total = 0
    for _ in range(_ROUNDS):
        changes = (yield Statement("cancel_children", {"limit": limit, "reason": UNWANTED}))[0][0]
        total += changes
        if not changes:
            break
    return total
