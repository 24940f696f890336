"""One session of a worker, as the store has it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import attrs

__all__ = ["Lease"]


@attrs.define(eq=False)
class Lease:
    """Until when a session may write, and under which epoch."""

    id: UUID
    until: datetime
    epoch: int = 0
    dead: bool = False
