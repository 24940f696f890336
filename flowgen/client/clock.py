"""The clocks of a client: the only file of this room that reads one.

The monotonic clock measures how long a caller has waited. The wall clock only goes into the time part of new UUIDv7s,
where a wrong one costs index locality and nothing else: every decision about time is the database's.
"""

from __future__ import annotations

import os
import time
from struct import unpack
from typing import TYPE_CHECKING

from flowgen.core.ids import ENTROPY, uuid7, uuid7s

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["monotonic", "new_uuid", "new_uuids"]

monotonic = time.monotonic


def new_uuid() -> UUID:
    """A fresh UUIDv7."""
    return uuid7(time.time_ns() // 1_000_000, os.urandom(ENTROPY))


def new_uuids(count: int) -> list[UUID]:
    """`count` fresh UUIDv7s that sort in the order of the list, with one look at the clock."""
    return uuid7s(time.time_ns() // 1_000_000, unpack(f">{count}Q", os.urandom(8 * count)))
