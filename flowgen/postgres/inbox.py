"""Messages to runs: how they are sent, and how their owner reads them.

    deliver(letters) -> Op[Mapping[UUID, int | None]]   in the caller's transaction; the status of each run before
    news(session, read={}) -> Op[Sequence[Owned]]       requests and new mail of the running runs of a session
    parse_inbox(cell) -> tuple[Message, ...]            a cell of a claim or of the news

It never deletes a message: the flush that records what came of it does (`FlushBatch.consumed`), or the end of the run.
The invariant: `mail` and `inbox` of an item are of one snapshot, so a hang-up with that `mail_read` cannot sleep
through a message. An item comes again with every call until its run hangs up or ends, or a request is answered, or a
CHECKPOINT or SET update gives a `mail_read`; what `read` says was read of its inbox does not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from uuid import UUID

from flowgen.core.entries import Message
from flowgen.postgres import arrays
from flowgen.postgres.database import Op, Statement
from flowgen.postgres.entries import instant
from flowgen.postgres.rows import Letter, Owned, Session

__all__ = ["deliver", "news", "parse_inbox"]

NOTHING: Mapping[UUID, int] = MappingProxyType({})


def deliver(letters: Sequence[Letter]) -> Op[Mapping[UUID, int | None]]:
    """Put messages into inboxes, in this order, and make the runs ready that wait.

    Gives the `Status` that each run had; None: there is no such run. One that has ended is told nothing. Waits for rows
    that are locked elsewhere.
    """
    rows = yield Statement(
        "deliver",
        {
            "runs": arrays.uuids([letter.run_id for letter in letters]),
            "kinds": arrays.int4s([letter.kind for letter in letters]),
            "keys": arrays.texts([letter.key for letter in letters]),
            "payloads": arrays.texts([letter.payload for letter in letters]),
        },
    )
    return {run_id: status for run_id, status, _ in rows}


def news(session: Session, read: Mapping[UUID, int] = NOTHING) -> Op[Sequence[Owned]]:
    """What others want of the runs that this session owns; one snapshot, no lock.

    `read` holds the number of the last message that was read of a run: of its inbox there comes only what is newer.
    """
    known = sorted(read.items(), key=lambda item: item[0].int)
    params = {"runs": arrays.uuids([run_id for run_id, _ in known]), "read": arrays.int8s([last for _, last in known])}
    rows = yield Statement("news", {"session": session.id, **params})
    return [
        Owned(run_id=run_id, request=request, reason=reason, mail=mail, deadline=deadline, inbox=parse_inbox(inbox))
        for run_id, request, reason, mail, deadline, inbox in rows
    ]


def parse_inbox(cell: str | None) -> tuple[Message, ...]:
    """The messages of a cell, oldest first."""
    if not cell:
        return ()
    return tuple(
        Message(number, kind, key, payload, instant(created))
        for number, kind, key, payload, created in json.loads(cell)
    )
