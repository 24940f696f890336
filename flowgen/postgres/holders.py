"""Who keeps what the server would otherwise clean up: old snapshots, transactions left prepared, replication slots.

    oldest(limit=20) -> Op[Sequence[Holder]]

It changes nothing, and needs no right that an ordinary role has not; what that may not see is None. The invariant: a
holder that lasts has the same `key` in each look, and one that began anew has another.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

import attrs

from flowgen.postgres.database import Op, Statement

__all__ = ["Holder", "oldest"]


@attrs.frozen
class Holder:
    """One of them."""

    what: Literal["session", "prepared", "slot", "wal"]
    """A slot keeps row versions; one that keeps WAL only is `wal`."""
    name: str
    """The pid of a session, the gid of a prepared transaction, the name of a slot."""
    mark: str
    """What it keeps everything since: a transaction, or a position of the WAL."""
    who: str | None
    """The role of a session or of a prepared transaction."""
    application: str | None
    state: str | None
    """Of a session, as the server says it; of a slot `active` or `inactive`."""
    lasts: timedelta | None
    """How long its transaction does; None for a slot, and for what this role is not shown."""

    @property
    def key(self) -> tuple[str, str, str]:
        return self.what, self.name, self.mark


def oldest(limit: int = 20) -> Op[Sequence[Holder]]:
    """Those that keep the most, the first first."""
    rows = yield Statement("holders", {"limit": limit})
    return [Holder(*row) for row in rows]
