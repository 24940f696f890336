"""Children that begin their life here: inserted as this session's own, they need no claim.

Only what this worker would claim anyway is adopted, and with each commit for at most half of the room that is free by
then, so that the other workers have their share. The invariant: while a flush that may adopt is on its way, `pending`
says so; until it is told, nobody here gives back runs that this session owns without knowing them.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime
from uuid import UUID

from flowgen.postgres.rows import ClaimedRun, NewRun
from flowgen.worker.live import LiveRun, Part

__all__ = ["Adoption"]


class Adoption:
    """Which children are to be adopted, and what became of that."""

    def __init__(self, names: Container[str], queues: Sequence[str] | None) -> None:
        """`names` of the definitions that this worker knows, and its queues; None: every queue."""
        self._names = names
        self._queues = queues
        self._pending: dict[LiveRun, int] = {}
        self.room: Callable[[], int] = lambda: 0
        """How many more runs this worker can take."""

    def pending(self) -> int:
        """Children that may be ours already, and are not here yet."""
        return sum(self._pending.values())

    def mark(self, parent: LiveRun, children: Sequence[NewRun]) -> None:
        """Ask for those of the new children that fit; one that was asked for already, and not sent, stays so."""
        if parent.claimed.recoveries:
            return  # it may end this process again: what it starts shall not be charged for it
        left = (self.room() - self.pending()) // 2
        marked = 0
        for child in children:
            if marked >= left:
                break
            if child.owned:
                continue
            served = self._queues is None or child.queue in self._queues
            if served and child.name in self._names and child.at is None and child.delay is None:
                child.owned = True
                marked += 1
        if marked:
            self._pending[parent] = self._pending.get(parent, 0) + marked

    def landed(self, part: Part, adopted: AbstractSet[UUID], now: datetime) -> list[ClaimedRun]:
        """The children of a part that is durable since `now`, as far as they are ours."""
        left = self._pending.pop(part.run, 0) - sum(child.owned for child in part.children)
        if left > 0:
            self._pending[part.run] = left
        return [_claimed(child, now) for child in part.children if child.run_id in adopted] if adopted else []

    def forget(self, parent: LiveRun) -> None:
        """Nothing more of this parent is committed here."""
        self._pending.pop(parent, None)

    def clear(self) -> None:
        """The session is over."""
        self._pending.clear()


def _claimed(child: NewRun, now: datetime) -> ClaimedRun:
    """The first claim of a child, as the store has it."""
    return ClaimedRun(
        run_id=child.run_id,
        id=child.id,
        name=child.name,
        kind=child.kind,
        queue=child.queue,
        priority=child.priority,
        claim=1,
        attempt=1,
        recoveries=0,
        input=child.input,
        correlation_id=child.correlation_id,
        parent_correlation_id=child.parent_correlation_id,
        parent_id=child.parent_id,
        parent_key=child.parent_key,
        root_id=child.root_id or child.run_id,
        depth=child.depth,
        trigger=child.trigger,
        deadline=None if child.deadline is None else now + child.deadline,
        created_at=now,
        mail=0,
        request=0,
        reason=None,
        base=0,
        prologue=0,
        next_index=0,
        entries=(),
    )
