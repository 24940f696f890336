"""The commands of one run that wait: for a time, for a message, or for both.

A gather of ten thousand sleeps or children must not look at all of them for each that ends: times stand in a heap,
listeners under their key, and a count tells whether all of a run's commands wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from heapq import heappop, heappush

from flowgen.core.branches import Leaf

__all__ = ["Waiting"]


class Waiting:
    """Leaves in the phase WAITING."""

    __slots__ = ("_count", "_heap", "_listeners", "_listening", "leaves")

    def __init__(self) -> None:
        self.leaves: set[Leaf] = set()
        """All of them. Read only."""
        self._heap: list[tuple[datetime, int, Leaf]] = []
        self._count = 0
        self._listeners: dict[str, list[Leaf]] = {}
        self._listening = 0

    def note(self, leaf: Leaf) -> None:
        """The leaf waits from now on."""
        self.leaves.add(leaf)
        if leaf.due_at is not None:
            self._count += 1
            heappush(self._heap, (leaf.due_at, self._count, leaf))
        if leaf.message_key is not None:
            self._listeners.setdefault(leaf.message_key, []).append(leaf)
            self._listening += 1

    def forget(self, leaf: Leaf) -> None:
        """The leaf waits no longer; nothing happens when it did not."""
        if leaf not in self.leaves:
            return
        self.leaves.remove(leaf)
        if leaf.message_key is not None:
            self._listening -= 1
            others = self._listeners[leaf.message_key]
            others.remove(leaf)
            if not others:
                del self._listeners[leaf.message_key]

    def listening_to(self, key: str) -> Sequence[Leaf]:
        """Who waits for a message under this key."""
        return self._listeners.get(key, ())

    def messages(self, *, all_of: bool) -> int:
        """How many messages it takes before going on makes sense; `all_of`: nothing happens before all have ended."""
        if all_of and self._listening == len(self.leaves):
            return len(self._listeners)
        return min(self._listening, 1)

    @property
    def due_at(self) -> datetime | None:
        """The earliest time that a leaf waits for."""
        while self._heap and not self._is_current(self._heap[0]):
            heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: datetime) -> list[Leaf]:
        """The leaves whose time has come; each is told once."""
        found: list[Leaf] = []
        while (due_at := self.due_at) is not None and due_at <= now:
            found.append(heappop(self._heap)[2])
        return found

    def _is_current(self, timer: tuple[datetime, int, Leaf]) -> bool:
        return timer[2] in self.leaves and timer[2].due_at == timer[0]
