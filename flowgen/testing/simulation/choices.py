"""The choices of a schedule: a list of ints, drawn from a seed or given.

Nothing here knows what is chosen. 0 is always the ordinary thing: the oldest event, an answer that arrives, a call that
ends. The invariant: the same list gives the same schedule, and past its end everything is ordinary.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

__all__ = ["ORDINARY", "Choices"]

ORDINARY: Final = 0

_RATES: Final = (0.0, 0.02, 0.06, 0.15)
"""How often what is not ordinary is drawn; one of them for each schedule."""
_LENGTHS: Final = (15, 40, 40, 120)
"""Choices that are drawn before all is left to its course; one of them for each schedule."""


class Choices:
    """Draws and notes, or reads."""

    __slots__ = ("_given", "_length", "_random", "_rate", "_taken")

    def __init__(self, random: Random | None, given: Sequence[int] = ()) -> None:
        """With `random` choices are drawn, else `given` is read."""
        self._random = random
        self._given = given
        self._taken: list[int] = []
        self._rate = 0.0
        self._length = len(given)
        if random is not None:
            self._rate = random.choice(_RATES)
            self._length = random.choice(_LENGTHS)

    @property
    def quiet(self) -> bool:
        """Whether nothing is chosen any more."""
        return len(self._taken) >= self._length

    @property
    def taken(self) -> list[int]:
        """The schedule so far, without what is ordinary at its end."""
        end = len(self._taken)
        while end and self._taken[end - 1] == ORDINARY:
            end -= 1
        return self._taken[:end]

    def one_of(self, count: int, others: int = 0) -> int:
        """Any of `count`, from 0; rarely one of `others` extraordinary things, as a negative number."""
        taken = self._taken
        if len(taken) >= self._length:
            return ORDINARY
        if self._random is None:
            value = self._given[len(taken)]
            if not -others <= value < count:
                value = ORDINARY
        elif others and self._random.random() < self._rate:
            value = -1 - int(self._random.random() * others)
        else:
            value = int(self._random.random() * count)
        taken.append(value)
        return value

    def rare(self, count: int) -> int:
        """0, rarely one of the other `count - 1`."""
        taken = self._taken
        if len(taken) >= self._length or count < 2:
            return ORDINARY
        if self._random is None:
            value = self._given[len(taken)]
            if not 0 <= value < count:
                value = ORDINARY
        elif self._random.random() < self._rate:
            value = 1 + int(self._random.random() * (count - 1))
        else:
            value = ORDINARY
        taken.append(value)
        return value
