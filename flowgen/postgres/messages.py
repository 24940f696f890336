"""Messages that others send to a run: signals, and what completes or fails a token.

    post(to, kind, key, payload) -> Op[Posted | None]      to the first of `to` that is there; None: there is none
    use_token(token, payload) -> Op[TokenUse]              once
    token_secret() -> Op[bytes]                            what tokens are signed with
    send_signal(session, claim, letter, ...) -> Op[Sent]   with the outcome of the command of the run that sends it

Each is one statement; the first two take part in a transaction that the caller has open. The invariant: the message is
there if and only if that commits, and then its run is awake, or will read it before it hangs up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

import attrs

from flowgen.core.entries import Entry, MessageKind
from flowgen.postgres import arrays
from flowgen.postgres.database import Op, Statement, utc
from flowgen.postgres.entries import entry_params
from flowgen.postgres.rows import Session

__all__ = ["Posted", "Sent", "SignalOut", "TokenUse", "post", "send_signal", "token_secret", "use_token"]

TokenUse: TypeAlias = Literal["used", "again", "late", "over", "unknown"]
"""`used` by this call, or why not: by an earlier one, its time has passed, its run has ended, or it is no token."""


@attrs.frozen
class Posted:
    """The run that was found, with the status that it had; one that has ended was told nothing."""

    run_id: UUID
    name: str
    status: int
    told: bool


@attrs.frozen
class SignalOut:
    """A signal on its way from a run to another."""

    sender: UUID
    to: tuple[UUID, ...]
    """What the id may mean, the likeliest first."""
    name: str
    payload: str
    """JSON text."""


@attrs.frozen
class Sent:
    """What came of it. `lost`: the sender is not this session's any more, or not at this claim."""

    what: Literal["fenced", "lost", "sent", "missing", "ended"]
    now: datetime
    name: str | None = None
    """Of the definition of the run that was found."""
    status: int | None = None
    due: Mapping[tuple[UUID, int], datetime] = attrs.field(factory=dict[tuple[UUID, int], datetime])


def post(to: Sequence[UUID], kind: MessageKind, key: str, payload: str) -> Op[Posted | None]:
    """Put a message into a run's inbox, and wake it. Waits for its row."""
    rows = yield Statement("post", {"to": arrays.uuids(to), "kind": int(kind), "key": key, "payload": payload})
    return Posted(*rows[0]) if rows else None


def use_token(token: str, payload: str) -> Op[TokenUse]:
    """Tell the run of a token what it was completed or failed with. Waits for its row."""
    rows = yield Statement("use_token", {"token": token, "payload": payload})
    use: TokenUse = rows[0][0]
    return use


def token_secret() -> Op[bytes]:
    """Never to be shown."""
    rows = yield Statement("token_secret")
    return bytes(rows[0][0])


def send_signal(session: Session, claim: int, signal: SignalOut, entries: Sequence[Entry]) -> Op[Sent]:
    """Send a signal with the sender's `entries`; nothing is written when there is nobody to send it to."""
    params = {"session": session.id, "epoch": session.epoch, "claim": claim}
    params |= entry_params([(signal.sender, entry) for entry in entries])
    params |= {
        "sender": signal.sender,
        "to": arrays.uuids(signal.to),
        "name": signal.name,
        "payload": signal.payload,
    }
    what, now, name, status = (yield Statement("send_signal", params))[0]
    return Sent(what, utc(now), name, status)
