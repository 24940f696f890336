"""The clocks of a client: the only file of this room that reads one.

The monotonic clock measures how long a caller has waited. The wall clock only goes into the time part of new UUIDv7s,
where a wrong one costs index locality and nothing else: every decision about time is the database's.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from flowgen.core.ids import ENTROPY, uuid7

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["monotonic", "new_uuid", "new_uuids"]

monotonic = time.monotonic

_COUNTER = (1 << 12) - 1


def new_uuid() -> UUID:
    """A fresh UUIDv7."""
    return uuid7(time.time_ns() // 1_000_000, os.urandom(ENTROPY))


def new_uuids(count: int) -> list[UUID]:
    """`count` fresh UUIDv7s that sort in the order of the list, with one look at the clock."""
    now, entropy = time.time_ns() // 1_000_000, os.urandom(8 * count)
    made: list[UUID] = []
    for at in range(count):
        # A counter stands in the bits between the time and the randomness, and carries into the time.
        counter = (at & _COUNTER) << 62 | int.from_bytes(entropy[8 * at : 8 * at + 8], "big") >> 2
        made.append(uuid7(now + (at >> 12), counter.to_bytes(ENTROPY, "big")))
    return made
