"""Sleep: hang up, and wake at an absolute time of the database's clock.

Never reads a clock: a duration stays one until it is recorded. The invariant: it has a duration or a time, never both.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import attrs

from flowgen.core.commands.command import NO_OPTIONS, Command, set_field
from flowgen.core.definitions import check_aware
from flowgen.core.durations import Duration, as_timedelta
from flowgen.core.options import CommandOptions
from flowgen.errors import DefinitionError

__all__ = ["Sleep"]

_SECONDS = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86400}


@attrs.frozen(init=False, eq=False, repr=False)
class Sleep(Command[None]):
    """Hang up; wake at an absolute time of the database's clock."""

    duration: timedelta | None
    until: datetime | None
    options: CommandOptions
    kind = "sleep"
    stores = False

    def __init__(
        self,
        duration: Duration | None = None,
        /,
        *,
        seconds: float = 0,
        minutes: float = 0,
        hours: float = 0,
        days: float = 0,
        until: datetime | None = None,
    ) -> None:
        parts = {"seconds": seconds, "minutes": minutes, "hours": hours, "days": days}
        given = {unit: amount for unit, amount in parts.items() if amount != 0}
        if sum((duration is not None, bool(given), until is not None)) > 1:
            raise DefinitionError("Sleep takes a duration, or seconds= minutes= hours= days=, or until=; not several")
        total: timedelta | None = None
        if until is None:
            total = as_timedelta(duration, what="Sleep") if duration is not None else _total(given)
        set_field(self, "duration", total)
        set_field(self, "until", None if until is None else check_aware(until, "Sleep(until=)").astimezone(UTC))
        set_field(self, "options", NO_OPTIONS)

    @property
    def arguments(self) -> object:
        return self.until.isoformat() if self.until is not None else self._seconds

    @property
    def _seconds(self) -> float:
        return self.duration.total_seconds() if self.duration is not None else 0.0

    def _shown(self) -> list[str]:
        return [f"until={self.until!r}"] if self.until is not None else [f"seconds={self._seconds:g}"]


def _total(parts: Mapping[str, float]) -> timedelta:
    total = timedelta()
    for unit, amount in parts.items():
        if isinstance(amount, bool) or not isinstance(amount, int | float):
            raise DefinitionError(f"Sleep({unit}=) takes a number, not {amount!r}")
        total += as_timedelta(amount * _SECONDS[unit], what=f"Sleep({unit}=)")
    return as_timedelta(total, what="Sleep")
