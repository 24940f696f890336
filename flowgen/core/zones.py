"""Time zones by their IANA names, as cron expressions and time windows give them."""

from __future__ import annotations

from datetime import UTC, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from flowgen.errors import DefinitionError

__all__ = ["zone_named"]

_MACHINE_ZONES: Final = frozenset({"localtime", "posixrules", "Factory"})
_LONGEST: Final = 200


def zone_named(name: str) -> tzinfo:
    """The zone of this name. Raises DefinitionError for one that this machine does not know, or that is its own."""
    if name == "UTC":
        return UTC
    advice = 'give an IANA name such as "Europe/Berlin" or "UTC"'
    if not isinstance(name, str) or not name or name in _MACHINE_ZONES:
        raise DefinitionError(f"time zone is {name!r}: {advice}")
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        if not available_timezones():
            advice = "there is no time zone database on this machine; install one with: pip install tzdata"
        raise DefinitionError(f"time zone {name[:_LONGEST]!r} is unknown here: {advice}") from None
