"""Scalars: the builtin types that are stored as one readable JSON string, each with its one form.

Never guesses: a text is read only by the scalar that an annotation names, and a datetime without a zone by none.
The invariant: `read(write(x)) == x` for each value that `write` accepts.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, Final
from uuid import UUID

import attrs

from flowgen.core.trees import Refused

__all__ = ["SCALARS", "Scalar"]


@attrs.frozen
class Scalar:
    """How one type is stored: `write` gives the text, `read` the value; both raise Refused or ValueError."""

    cls: type
    form: str
    write: Callable[[Any], str]
    read: Callable[[str], Any]
    implied: bool = True
    """Whether a value without an annotation may be stored so; bytes would come back as unreadable text."""


_TIMEDELTA: Final = re.compile(r"(-?)P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.(\d{6}))?S)?)?", re.ASCII)


def _write_datetime(value: datetime) -> str:
    if value.utcoffset() is None:
        raise Refused(
            f"naive datetime {value.isoformat()}: nobody knows which instant it is; use a timezone-aware one, "
            "as datetime(..., tzinfo=UTC)"
        )
    return value.isoformat()


def _read_datetime(text: str) -> datetime:
    value = datetime.fromisoformat(text)
    if value.utcoffset() is None:
        raise Refused(f"naive datetime {text}: a stored datetime has a zone, as 2026-01-31T12:00:00+00:00")
    return value


def _write_time(value: time) -> str:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise Refused("a time of day in a zone whose offset depends on the date: store a datetime, or the zone's name")
    return value.isoformat()


def _write_timedelta(value: timedelta) -> str:
    if value < timedelta(0):
        return "-" + _write_timedelta(-value) if value != timedelta.min else _refuse_shortest()
    hours, rest = divmod(value.seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    text = "P" + (f"{value.days}D" if value.days else "")
    clock = (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "")
    if value.microseconds:
        clock += f"{seconds}.{value.microseconds:06}S"
    elif seconds or not (value.days or clock):
        clock += f"{seconds}S"
    return text + (f"T{clock}" if clock else "")


def _refuse_shortest() -> str:
    raise Refused("timedelta.min has no positive counterpart, and no ISO 8601 form")


def _read_timedelta(text: str) -> timedelta:
    found = _TIMEDELTA.fullmatch(text)
    if found is None or text.endswith(("P", "T")):
        raise ValueError(text)
    sign, days, hours, minutes, seconds, micros = found.groups()
    value = timedelta(
        days=int(days or 0),
        hours=int(hours or 0),
        minutes=int(minutes or 0),
        seconds=int(seconds or 0),
        microseconds=int(micros or 0),
    )
    return -value if sign else value


def _write_bytes(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _read_bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except binascii.Error as error:
        raise ValueError(text) from error


def _write_decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise Refused(f"Decimal {value} has no JSON form: finite decimals are allowed; store None or a str instead")
    return str(value)


def _read_decimal(text: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(text) from error
    if not value.is_finite():
        raise ValueError(text)
    return value


def _read_uuid(text: str) -> UUID:
    value = UUID(text)
    # UUID also takes braces, urn: and text without hyphens.
    if str(value) != text.lower():
        raise ValueError(text)
    return value


# Subclasses stand before what they derive from: a datetime is a date.
SCALARS: Final = (
    Scalar(datetime, "an ISO 8601 date and time with offset", _write_datetime, _read_datetime),
    Scalar(date, "an ISO 8601 date", date.isoformat, date.fromisoformat),
    Scalar(time, "an ISO 8601 time of day", _write_time, time.fromisoformat),
    Scalar(timedelta, "an ISO 8601 duration such as PT1H30M", _write_timedelta, _read_timedelta),
    Scalar(UUID, "a UUID with hyphens", str, _read_uuid),
    Scalar(Decimal, "a decimal number in a string", _write_decimal, _read_decimal),
    Scalar(bytes, "base64", _write_bytes, _read_bytes, implied=False),
    *(
        Scalar(cls, "a path", str, cls)
        for cls in (Path, PosixPath, WindowsPath, PurePosixPath, PureWindowsPath, PurePath)
    ),
)
