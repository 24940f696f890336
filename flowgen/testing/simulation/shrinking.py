"""From a schedule that fails to a small one that fails in the same way.

It knows nothing of what a choice means, only that 0 is ordinary and that the end of the list is ordinary for ever. The
invariant: what it gives fails; it is no longer, and nothing in it is further from 0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["shrunk"]

TRIES: Final = 1500
"""Schedules that are tried at the most."""


class _Search:
    def __init__(self, schedule: list[int], fails: Callable[[list[int]], bool]) -> None:
        self.best = schedule
        self._fails = fails
        self._left = TRIES
        self._known: set[tuple[int, ...]] = set()

    def is_better(self, tried: list[int]) -> bool:
        """Keep it when it fails too."""
        while tried and tried[-1] == 0:
            tried = tried[:-1]
        if self._left <= 0 or tried == self.best or tuple(tried) in self._known:
            return False
        self._known.add(tuple(tried))
        self._left -= 1
        if not self._fails(tried):
            return False
        self.best = tried
        return True

    def spans(self, change: Callable[[list[int], int, int], list[int]]) -> bool:
        """Try a change on long spans first, then on shorter ones."""
        better = False
        size = len(self.best)
        while size:
            start = 0
            while start < len(self.best):
                if self.is_better(change(self.best, start, start + size)):
                    better = True
                else:
                    start += size
            size //= 2
        return better

    def values(self) -> bool:
        """Bring each choice nearer to 0."""
        better = False
        for place in range(len(self.best)):
            for value in (1, -1, 2, -2, 3):
                if place >= len(self.best) or abs(value) >= abs(self.best[place]):
                    continue
                if self.is_better([*self.best[:place], value, *self.best[place + 1 :]]):
                    better = True
                    break
        return better


def shrunk(schedule: list[int], fails: Callable[[list[int]], bool]) -> list[int]:
    """The smallest schedule that was found to fail, beginning from one that does."""
    search = _Search(schedule, fails)
    going = True
    while going:
        going = search.spans(lambda best, start, end: best[:start])
        going |= search.spans(lambda best, start, end: [*best[:start], *[0] * len(best[start:end]), *best[end:]])
        going |= search.spans(lambda best, start, end: [*best[:start], *best[end:]])
        going |= search.values()
    return search.best
