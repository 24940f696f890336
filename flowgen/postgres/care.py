"""What there is to do for the agents of a worker, in one look.

    look() -> Op[Look]
    sweep(limit=5000) -> Op[int]          entries of earlier passes that were deleted; 0: none was found

`look` changes nothing and locks nothing: whoever finds something to do there does it with the statements that are for
it, which look for themselves. The invariant: what they would find is in the look, so nobody has to ask them in vain.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import attrs

from flowgen.postgres.database import Op, Statement

__all__ = ["Look", "look", "sweep"]


@attrs.frozen
class Look:
    """What was there at `now`."""

    now: datetime
    lost: bool
    """Sessions that `workers.reap` has work with."""
    ready: bool
    """Ready runs, whoever may claim them."""
    suspect: bool
    """Ready runs that are claimed alone."""
    held: bool
    """Held runs, whether or not one can be put back."""
    cascades: bool
    """Runs that ended and may have children to cancel, or children that are noted to be cancelled."""
    former: bool
    """Entries that nobody reads any more, of earlier passes or closed segments."""
    events: bool
    """Events that nobody was told of, or waits that look for one."""
    closed: Sequence[str] | None
    """Definitions all of whose time windows are closed."""
    next_due_at: datetime | None
    """Of the sleepers, delayed runs and deadlines; it may be past."""
    next_tick_at: datetime | None
    """Of the schedules; it may be past."""


def look() -> Op[Look]:
    """What there is to do."""
    rows = yield Statement("care")
    return Look(*rows[0])


def sweep(limit: int = 5000) -> Op[int | None]:
    """Delete entries of a run that nobody reads any more. How many; None: there is no such run."""
    return (yield Statement("sweep_former", {"limit": limit}))[0][0]  # type: ignore[no-any-return]
