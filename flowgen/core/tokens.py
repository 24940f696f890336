"""The text of a completion token: which run and which token it is, when it times out, and a signature over that.

    flowgen_ + base64url( run 16 bytes | token 16 | due, microseconds since 1970, 8 | HMAC-SHA256 of these, 32 )

The same in SQL (`token_mac`), where it is checked. The secret is the schema's, made when that was made: without it
nobody can make a text that is taken, or change one. The invariant: a text holds no character that a URL escapes.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

__all__ = ["COMPLETED", "FAILED", "PREFIX", "completed", "failed", "written"]

PREFIX: Final = "flowgen_"
"""What every token begins with, so that whoever looks for secrets in logs and code finds it."""

COMPLETED: Final = '{"value":'
FAILED: Final = '{"failure":'
"""What the message to the run begins with; the JSON of the value or of the failure follows, and a bracket."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER: Final = 0


def written(secret: bytes, run_id: UUID, token_id: UUID, due_at: datetime | None) -> str:
    """The text of a token, signed."""
    due = _NEVER if due_at is None else (due_at - _EPOCH) // timedelta(microseconds=1)
    body = run_id.bytes + token_id.bytes + due.to_bytes(8, "big", signed=True)
    return PREFIX + urlsafe_b64encode(body + hmac.digest(secret, body, "sha256")).decode()


def completed(value: str) -> str:
    """The message to the run, for the JSON text of a value."""
    return f"{COMPLETED}{value}}}"


def failed(failure: str) -> str:
    """The message to the run, for the JSON text of a failure."""
    return f"{FAILED}{failure}}}"
