"""Canonical text: the same JSON for equal values, whatever they are, to compare and to hash.

Never refuses a value and never reads it back; what has no JSON form is described by its type. The invariant: the text
depends neither on the order of keys or of sets, nor on addresses or hash seeds.
"""

from __future__ import annotations

import dataclasses
import json
import json.encoder
from collections.abc import Callable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

import attrs

from flowgen.core.trees import ATOMS, MAX_DEPTH, is_plain, show_type

__all__ = ["canonical", "exact"]

_READABLE: Final = (UUID, Decimal, PurePath, timedelta)


def canonical(value: object) -> str:
    """The canonical JSON of any value: keys sorted, ASCII, without spaces."""
    try:
        return _write(value)
    except _UNWRITTEN:
        return _write(_tree(value, 1))


def exact(members: Mapping[str, Any]) -> str | None:
    """The canonical JSON of an object of which it is seen at once that JSON keeps each member exactly; else None."""
    for value in members.values():
        if type(value) not in ATOMS and not is_plain(value):
            return None
    try:
        text = _write_finite(members)
    except _UNWRITTEN:
        return None
    # Escaped beyond ASCII: perhaps half of a pair of surrogates.
    return None if "\\ud" in text else text


def _make_writer(*, nan: bool) -> Callable[[Any], str]:
    compiled: Any = getattr(json.encoder, "c_make_encoder", None)
    if compiled is None:
        return json.JSONEncoder(check_circular=False, separators=(",", ":"), sort_keys=True, allow_nan=nan).encode
    # JSONEncoder builds this object anew for each value.
    write = compiled(None, None, json.encoder.encode_basestring_ascii, None, ":", ",", True, False, nan)
    return lambda tree: "".join(write(tree, 0))


_write: Final = _make_writer(nan=True)
_write_finite: Final = _make_writer(nan=False)
_UNWRITTEN: Final = (TypeError, ValueError, RecursionError)
"""Something that JSON has no form for, keys that are no text, or an int of more than 4300 digits."""


def _tree(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if depth > MAX_DEPTH:
        return f"<deeper than {MAX_DEPTH}>"
    if isinstance(value, Enum):
        return _tree(value.value, depth + 1)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value) if value.bit_length() < 10_000 else hex(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, Mapping):
        return {_key(key, depth): _tree(member, depth + 1) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_tree(member, depth + 1) for member in value]
    if isinstance(value, set | frozenset):
        return sorted((_tree(member, depth + 1) for member in value), key=_write)
    return _record(value, depth)


def _record(value: Any, depth: int) -> Any:
    if isinstance(value, _READABLE):
        return str(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray):
        return value.hex()
    names: list[str] = []
    if attrs.has(type(value)):
        names = [each.name for each in attrs.fields(type(value)) if each.eq]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [each.name for each in dataclasses.fields(value) if each.compare]
    elif isinstance(getattr(type(value), "model_fields", None), dict):
        names = list(type(value).model_fields)
    else:
        return _described(value)
    return {name: _tree(getattr(value, name, None), depth + 1) for name in names}


def _described(value: Any) -> str:
    named = value if isinstance(getattr(value, "__qualname__", None), str) else type(value)
    return f"<{show_type(type(value))} {getattr(named, '__module__', '?')}.{named.__qualname__}>"


def _key(key: Any, depth: int) -> str:
    return str.__str__(key) if isinstance(key, str) else _write(_tree(key, depth + 1))
