"""Durations: the one reading of what a user may write for a length of time.

Never reads a clock and never rounds silently to another meaning. The invariant: what `as_timedelta` returns is finite,
not negative, and can be added to any `timestamptz` of this era without leaving PostgreSQL's range.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta
from fractions import Fraction
from typing import Final, TypeAlias

from flowgen.errors import DefinitionError

__all__ = ["MAX_DURATION", "Duration", "as_timedelta"]

Duration: TypeAlias = timedelta | float | str
"""A timedelta, a number of seconds, or a string such as "1h30m"."""

MAX_DURATION: Final = timedelta(days=365_250)
"""The longest duration: 1000 years. A timestamptz reaches the year 294276 and a Python datetime the year 9999."""

_MAX_SECONDS: Final = int(MAX_DURATION.total_seconds())
_ALLOWED: Final = 'a timedelta, a number of seconds, or a string such as "500ms", "2s", "1h30m", "1.5h", "2d", "1w"'
_PART: Final = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*(w|d|h|ms|us|m|s)", re.ASCII)
_MICROSECONDS: Final = {
    "w": 604_800_000_000,
    "d": 86_400_000_000,
    "h": 3_600_000_000,
    "m": 60_000_000,
    "s": 1_000_000,
    "ms": 1_000,
    "us": 1,
}
# A longer text is no duration, and Fraction would be slow on a million digits.
_MAX_TEXT: Final = 100


def as_timedelta(value: Duration, *, what: str = "duration", positive: bool = False) -> timedelta:
    """Turn what a user wrote into a timedelta; numbers are seconds.

    `what` names the value in the error. Zero is allowed unless `positive` is true.

    Raises:
        DefinitionError: for a bool, a negative, NaN, infinite or too long value, an unknown string or another type.
    """
    if isinstance(value, timedelta):
        result = value
    elif isinstance(value, str):
        result = _parse(value, what)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        result = _from_seconds(value, what)
    else:
        raise DefinitionError(f"{what} is {_shown(value)} of type {type(value).__name__}: give {_ALLOWED}")
    if result < timedelta(0):
        raise DefinitionError(f"{what} is {_shown(value)}, which is negative: give zero or more, as {_ALLOWED}")
    if result > MAX_DURATION:
        raise _too_long(value, what)
    if positive and not result:
        raise DefinitionError(f"{what} is {_shown(value)}: give more than zero, as {_ALLOWED}")
    return result


def _from_seconds(value: float, what: str) -> timedelta:
    if isinstance(value, float) and not math.isfinite(value):
        raise DefinitionError(f"{what} is {value!r}, which is no length of time: give {_ALLOWED}")
    if value > _MAX_SECONDS:
        raise _too_long(value, what)
    # Bounded below as well, so that -1e300 is told as negative and not as an OverflowError.
    return timedelta(seconds=max(value, -1.0))


def _parse(text: str, what: str) -> timedelta:
    total = Fraction(0)
    seen: set[str] = set()
    position = 0
    body = text.strip()
    unknown = DefinitionError(f"{what} is {_shown(text)}, which is not understood: give {_ALLOWED}")
    if not body or len(body) > _MAX_TEXT:
        raise unknown
    while position < len(body):
        part = _PART.match(body, position)
        if part is None or part[2] in seen:
            raise unknown
        seen.add(part[2])
        total += Fraction(part[1]) * _MICROSECONDS[part[2]]
        position = part.end()
    if total > _MAX_SECONDS * 1_000_000:
        raise _too_long(text, what)
    return timedelta(microseconds=round(total))


def _too_long(value: Duration, what: str) -> DefinitionError:
    return DefinitionError(f"{what} is {_shown(value)}, which is longer than 1000 years: give a shorter one")


def _shown(value: object) -> str:
    # An int of more than 4300 digits has no repr.
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
