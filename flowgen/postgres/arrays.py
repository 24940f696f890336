"""Arrays as PostgreSQL reads them in binary, each of a fixed type whatever it holds.

psycopg finds the type of a list in its items, so that `[1]`, `[70000]`, `[None]` and `[]` are four types and four
prepared statements; these are one. It never guesses a type and never connects. The invariant: an array made here binds
to `%(name)b` with the type that its name says, also when it is empty or holds nothing but None.

Nothing but None is sent as an empty array: `unnest` of several arrays fills the shorter ones up with NULL, so what a
batch does not use costs it nothing. Give such a column to a statement that unnests it beside one without None.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from struct import Struct, pack
from uuid import UUID

import psycopg
from psycopg.abc import AdaptContext
from psycopg.adapt import Dumper
from psycopg.pq import Format

__all__ = ["bools", "float8s", "int4s", "int8s", "intervals", "register", "texts", "timestamps", "uuids"]

_HEADER = Struct(">iiIii")
_LENGTH = Struct(">i")
_NULL = _LENGTH.pack(-1)
_UUID = 16 << 128  # the length, in front of the 16 bytes
_INT4 = Struct(">ii")
_INT8 = Struct(">iq")
_FLOAT8 = Struct(">id")
_INTERVAL = Struct(">iqii")
_TRUE = pack(">i?", 1, True)
_FALSE = pack(">i?", 1, False)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class _Array(bytes):
    """The wire form of one array."""

    __slots__ = ()


class _Uuids(_Array):
    __slots__ = ()


class _Texts(_Array):
    __slots__ = ()


class _Int4s(_Array):
    __slots__ = ()


class _Int8s(_Array):
    __slots__ = ()


class _Float8s(_Array):
    __slots__ = ()


class _Bools(_Array):
    __slots__ = ()


class _Timestamps(_Array):
    __slots__ = ()


class _Intervals(_Array):
    __slots__ = ()


_OIDS: dict[type[_Array], tuple[int, int]] = {  # element, array
    _Uuids: (2950, 2951),
    _Texts: (25, 1009),
    _Int4s: (23, 1007),
    _Int8s: (20, 1016),
    _Float8s: (701, 1022),
    _Bools: (16, 1000),
    _Timestamps: (1184, 1185),
    _Intervals: (1186, 1187),
}


class _ArrayDumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: bytes) -> bytes:
        return obj


_DUMPERS = {kind: type(f"{kind.__name__}Dumper", (_ArrayDumper,), {"oid": array}) for kind, (_, array) in _OIDS.items()}


def register(context: AdaptContext) -> None:
    """Teach a connection these arrays; connections made after the import of this module know them already."""
    for kind, dumper in _DUMPERS.items():
        context.adapters.register_dumper(kind, dumper)


for _kind, _dumper in _DUMPERS.items():
    psycopg.adapters.register_dumper(_kind, _dumper)


def _frame(element: int, count: int, nulls: bool, body: bytes) -> bytes:
    if not count:
        return pack(">iiI", 0, 0, element)
    return _HEADER.pack(1, nulls, element, count, 1) + body


def _blank(items: Sequence[object]) -> bool:
    """Whether there is nothing but None."""
    return not items or (items[0] is None and items.count(None) == len(items))


_NO_UUIDS = _Uuids(_frame(2950, 0, False, b""))
_NO_TEXTS = _Texts(_frame(25, 0, False, b""))
_NO_INT4S = _Int4s(_frame(23, 0, False, b""))
_NO_TIMESTAMPS = _Timestamps(_frame(1184, 0, False, b""))
_NO_INTERVALS = _Intervals(_frame(1186, 0, False, b""))


def uuids(items: Iterable[UUID | None]) -> bytes:
    """`uuid[]`."""
    found = items if isinstance(items, list | tuple) else list(items)
    if _blank(found):
        return _NO_UUIDS
    parts = [_NULL if item is None else (_UUID | item.int).to_bytes(20, "big") for item in found]
    return _Uuids(_frame(2950, len(parts), _NULL in parts, b"".join(parts)))


def texts(items: Iterable[str | None]) -> bytes:
    """`text[]`."""
    found = items if isinstance(items, list | tuple) else list(items)
    if _blank(found):
        return _NO_TEXTS
    nulls = False
    length = _LENGTH.pack
    parts: list[bytes] = []
    for item in found:
        if item is None:
            nulls = True
            parts.append(_NULL)
        else:
            data = item.encode()
            parts += (length(len(data)), data)
    return _Texts(_frame(25, len(found), nulls, b"".join(parts)))


def int4s(items: Sequence[int | None]) -> bytes:
    """`integer[]`."""
    if _blank(items):
        return _NO_INT4S
    count = len(items)
    if None in items:
        body = b"".join([_NULL if item is None else _INT4.pack(4, item) for item in items])
        return _Int4s(_frame(23, count, True, body))
    flat: list[int | None] = [4] * (2 * count)
    flat[1::2] = items
    return _Int4s(_frame(23, count, False, pack(f">{2 * count}i", *flat)))


def int8s(items: Iterable[int | None]) -> bytes:
    """`bigint[]`."""
    parts = [_NULL if item is None else _INT8.pack(8, item) for item in items]
    return _Int8s(_frame(20, len(parts), _NULL in parts, b"".join(parts)))


def float8s(items: Iterable[float | None]) -> bytes:
    """`double precision[]`."""
    parts = [_NULL if item is None else _FLOAT8.pack(8, item) for item in items]
    return _Float8s(_frame(701, len(parts), _NULL in parts, b"".join(parts)))


def bools(items: Iterable[bool]) -> bytes:
    """`boolean[]`."""
    parts = [_TRUE if item else _FALSE for item in items]
    return _Bools(_frame(16, len(parts), False, b"".join(parts)))


def timestamps(items: Sequence[datetime | None]) -> bytes:
    """`timestamptz[]`; every datetime is aware."""
    if _blank(items):
        return _NO_TIMESTAMPS
    parts = [_NULL if item is None else _INT8.pack(8, (item - _EPOCH) // _MICROSECOND) for item in items]
    return _Timestamps(_frame(1184, len(parts), _NULL in parts, b"".join(parts)))


def intervals(items: Sequence[timedelta | None]) -> bytes:
    """`interval[]`, in microseconds: a day is 24 hours."""
    if _blank(items):
        return _NO_INTERVALS
    parts = [_NULL if item is None else _INTERVAL.pack(16, item // _MICROSECOND, 0, 0) for item in items]
    return _Intervals(_frame(1186, len(parts), _NULL in parts, b"".join(parts)))
