"""Messages to runs, as their owner reads them.

    news(session) -> Op[Sequence[Owned]]        requests and new mail of the running runs of a session
    parse_inbox(cell) -> tuple[Message, ...]    a cell of a claim or of the news

It never deletes a message: the flush that records what came of it does (`FlushBatch.consumed`), or the end of the run.
The invariant: `mail` and `inbox` of an item are of one snapshot, so a hang-up with that `mail_read` cannot sleep
through a message. An item comes again with every call until its run hangs up or ends, or a request is answered, or a
CHECKPOINT or SET update gives a `mail_read`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from flowgen.core.entries import Message
from flowgen.postgres.database import Op, Statement
from flowgen.postgres.entries import instant
from flowgen.postgres.rows import Owned, Session

__all__ = ["news", "parse_inbox"]


def news(session: Session) -> Op[Sequence[Owned]]:
    """What others want of the runs that this session owns; one snapshot, no lock."""
    rows = yield Statement("news", {"session": session.id})
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
