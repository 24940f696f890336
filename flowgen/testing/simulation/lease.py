"""One session of a worker, as the store has it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import attrs

from flowgen.testing.simulation.row import Row

__all__ = ["Lease"]


@attrs.define(eq=False)
class Lease:
    """Until when a session may write, and under which epoch."""

    id: UUID
    until: datetime
    epoch: int = 0
    dead: bool = False
    excused: bool = False
    """Its process has lived: its end is nobody's recovery."""
    charged: list[Row] = attrs.field(factory=list)
    """Runs whose recoveries its end was counted for."""
