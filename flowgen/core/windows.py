"""Time windows: when runs of a definition are worked at.

Only values: whether a window is open says the database, by its clock (`postgres.windows`), so that all workers agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import attrs

from flowgen.core.zones import zone_named
from flowgen.errors import DefinitionError

__all__ = ["Window", "as_windows"]

_TIME: Final = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d")
_ADVICE: Final = 'give hours and minutes, such as "22:00"'


@attrs.frozen(init=False)
class Window:
    """From one time of the day to another, in an IANA zone: `Window("22:00", "06:00", timezone="Europe/Berlin")`.

    It is open from `opens` on, until `closes`; one that closes before it opens is overnight. Both are times of the wall
    clock there, also on the days on which clocks are changed. "24:00" is the midnight at the end of a day.

    Raises:
        DefinitionError: for what is no time, for an unknown zone, and for a window that never closes.
    """

    opens: str
    closes: str
    timezone: str

    def __init__(self, opens: str, closes: str, *, timezone: str = "UTC") -> None:
        zone_named(timezone)
        self.__attrs_init__(_time(opens, "opens"), _time("00:00" if closes == "24:00" else closes, "closes"), timezone)
        if self.opens == self.closes:
            raise DefinitionError(
                f"a window opens and closes at {self.opens}: leave window= out for runs that are worked at all day"
            )

    def __str__(self) -> str:
        return f"{self.opens}-{self.closes} {self.timezone}"


def as_windows(window: str | Window | Iterable[str | Window] | None) -> tuple[Window, ...]:
    """One window, several or none, as a tuple; a plain string such as "22:00-06:00" is the short form, in UTC."""
    if window is None:
        return ()
    given = tuple(window) if isinstance(window, Iterable) and not isinstance(window, str) else (window,)
    return tuple(each if isinstance(each, Window) else _parsed(each) for each in given)


def _parsed(text: object) -> Window:
    opens, dash, closes = text.partition("-") if isinstance(text, str) else ("", "", "")
    if not dash:
        raise DefinitionError(
            f'window= takes times such as "22:00-06:00" (UTC), a Window, or several of them, not {text!r}'
        )
    return Window(opens.strip(), closes.strip())


def _time(text: object, what: str) -> str:
    if not isinstance(text, str) or not _TIME.fullmatch(text):
        raise DefinitionError(f"a window {what} at {text!r}: {_ADVICE}")
    return text
