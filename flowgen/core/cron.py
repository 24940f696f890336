"""Cron: when a schedule fires next.

Never reads a clock (the caller gives the time) and never fires twice for one wall time. Fields are the five of cron, or
six with the seconds first, as in Quartz and node-cron. Day of month and day of week are joined by "or" when both are
given. The aliases @yearly, @annually, @monthly, @weekly, @daily, @midnight and @hourly are understood.

The invariant, at a change of the clocks: an expression means wall times of its zone, and each runs once. A time that is
skipped runs at the first moment after the gap, together with others that are skipped there. A time that is repeated
runs the first time only, also for expressions such as `*/5 * * * *`, which are silent in the repeated hour.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Final

import attrs
from croniter import croniter
from croniter.croniter import CroniterBadDateError, CroniterError

from flowgen.core.zones import zone_named
from flowgen.errors import DefinitionError

__all__ = ["CronSpec", "next_after"]

_ALIASES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS: Final = ("second", "minute", "hour", "day of month", "month", "day of week")
_RANGES: Final = {
    "second": "0-59",
    "minute": "0-59",
    "hour": "0-23",
    "day of month": "1-31 or L",
    "month": "1-12 or JAN-DEC",
    "day of week": "0-7 (0 and 7 are Sunday) or SUN-SAT",
}
_LONGEST_STEP: Final = {"second": 59, "minute": 59, "hour": 23, "day of month": 31, "month": 12, "day of week": 7}
_MONTHS: Final = frozenset(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"])
_DAYS: Final = frozenset(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])
# croniter has more words than these: H and R stand for hashed and for random times.
_WORDS: Final = {"day of month": frozenset({"l", "w", "lw"}), "month": _MONTHS, "day of week": _DAYS | {"l"}}
_STEP: Final = re.compile(r"/(\d*)")
_LONGEST: Final = 200
_SECOND: Final = timedelta(seconds=1)
# A leap year's start: 29 February is found at once.
_PROBE: Final = datetime(2000, 1, 1)


@attrs.frozen
class CronSpec:
    """A checked expression and the IANA name of its zone.

    Raises:
        DefinitionError: names the field that is wrong, or says that the expression never fires.
    """

    expression: str
    timezone: str = "UTC"
    zone: tzinfo = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(lambda self: zone_named(self.timezone), takes_self=True)
    )
    fields: str = attrs.field(
        init=False, eq=False, repr=False, default=attrs.Factory(lambda self: _checked(self.expression), takes_self=True)
    )
    """The six fields that the expression stands for, seconds first."""

    @classmethod
    def parse(cls, expression: str, timezone: str = "UTC") -> CronSpec:
        """Check an expression and its zone. Raises DefinitionError as the class does."""
        return cls(expression, timezone)


def next_after(spec: CronSpec, after: datetime) -> datetime:
    """The first moment, in UTC, later than `after` at which the schedule fires.

    Raises:
        ValueError: for a naive `after`.
        DefinitionError: when there is none before the year 9999.
    """
    if after.utcoffset() is None:
        raise ValueError(f"after is {after.isoformat()}, which is naive: give an aware datetime")
    walls = _walls(spec.fields, after.astimezone(spec.zone).replace(tzinfo=None, fold=0))
    try:
        while True:
            # Repeated wall times have run already when `after` is in their second pass.
            moment = _moment(walls.get_next(datetime), spec.zone)
            if moment > after:
                return moment
    except (CroniterError, OverflowError):
        raise DefinitionError(f"cron expression {spec.expression!r} does not fire after {after.isoformat()}") from None


def _walls(fields: str, start: datetime) -> Any:
    return croniter(fields, start, second_at_beginning=True)


def _moment(wall: datetime, zone: tzinfo) -> datetime:
    """The instant of a wall time: the first of two, or the end of the gap that it falls in."""
    early = wall.replace(tzinfo=zone, fold=0)
    moment = early.astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == wall:
        return moment
    # In a gap fold=0 reads the offset before it and so lies behind it, fold=1 the other way round.
    before, behind = wall.replace(tzinfo=zone, fold=1).astimezone(UTC), moment
    offset = behind.astimezone(zone).utcoffset()
    while behind - before > _SECOND:
        middle = before + timedelta(seconds=(behind - before) // _SECOND // 2)
        if middle.astimezone(zone).utcoffset() == offset:
            behind = middle
        else:
            before = middle
    return behind


def _checked(expression: str) -> str:
    fields = _six_fields(expression)
    for name, field in zip(_FIELDS, fields, strict=True):
        _check_field(expression, name, field)
    joined = " ".join(fields)
    try:
        _walls(joined, _PROBE).get_next(datetime)
    except CroniterBadDateError:
        raise DefinitionError(
            f"cron expression {expression!r} never fires: no date fits its day of month and month"
        ) from None
    except (CroniterError, ValueError, KeyError, OverflowError) as error:
        raise DefinitionError(f"cron expression {expression!r} is not understood: {error}") from None
    return joined


def _six_fields(expression: str) -> list[str]:
    allowed = "give 5 fields (minute, hour, day of month, month, day of week) or 6 with the seconds first"
    if not isinstance(expression, str):
        raise DefinitionError(f"cron expression is {expression!r}: {allowed}, as a str")
    if len(expression) > _LONGEST:
        raise DefinitionError(f"cron expression is {len(expression)} characters long: {allowed}")
    if expression.strip().lower() == "@reboot":
        raise DefinitionError(
            "cron expression '@reboot' names no time: a schedule lives in the database, not in a machine"
        )
    if expression.strip().startswith("@"):
        alias = _ALIASES.get(expression.strip().lower())
        if alias is None:
            raise DefinitionError(f"cron expression {expression!r} is unknown: give one of {', '.join(_ALIASES)}")
        return ["0", *alias.split()]
    fields = expression.split()
    if len(fields) not in (5, 6):
        raise DefinitionError(f"cron expression {expression!r} has {len(fields)} fields: {allowed}")
    return fields if len(fields) == 6 else ["0", *fields]


def _check_field(expression: str, name: str, field: str) -> None:
    wrong = DefinitionError(
        f"cron expression {expression!r}: the {name} field {field!r} is not understood: "
        f"give {_RANGES[name]}, *, lists, ranges or steps such as */5"
    )
    words = re.findall(r"[^\W\d_]+", field.lower())
    if any(word not in _WORDS.get(name, ()) for word in words) or not field.isascii():
        raise wrong
    # croniter takes */90 for minutes, and fires hourly.
    if any(not step or not 0 < int(step) <= _LONGEST_STEP[name] for step in _STEP.findall(field)):
        raise wrong
    others = [field if each == name else "*" for each in _FIELDS]
    try:
        croniter.expand(" ".join(others), second_at_beginning=True)
    except (CroniterError, ValueError, KeyError, IndexError, TypeError):
        raise wrong from None
