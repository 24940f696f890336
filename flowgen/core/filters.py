"""Filters of events as data: which payloads a wait or a trigger is for.

A filter is a mapping of a path to what stands there: `{"order.id": 7, "total": {"gt": 3}}`. Here it is only checked and
brought into the one form that is stored; the database alone applies it (`event_matches`), whoever emits. The invariant:
what is refused could never match, or would be read in two ways.

| condition                    | matches when                                                                       |
|------------------------------|------------------------------------------------------------------------------------|
| a value, `{"eq": value}`     | it is there and equal, as JSON: 1 equals 1.0, and true does not                    |
| `{"ne": value}`              | it is there and differs                                                            |
| `{"in": [...]}`              | it equals one of them                                                              |
| `{"gt": value}`, ge, lt, le  | it is a number beside a number, or text beside text, in the order of code points   |
| `{"exists": true}`           | it is there, null included; `false`: it is not                                     |

Several conditions of one path, and several paths, must all hold. A number in a path is a place in a list.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from flowgen.core import codec
from flowgen.errors import CodecError, DefinitionError

__all__ = ["Filter", "fields_of", "filter_text"]

Filter: TypeAlias = Mapping[str, Any]
"""Of paths, whose parts dots separate, to values or conditions."""

_OPERATORS: Final = ("eq", "ne", "in", "gt", "ge", "lt", "le", "exists")
_ORDERED: Final = frozenset({"gt", "ge", "lt", "le"})
_MANY: Final = 100
"""Conditions of one filter at the most."""


def filter_text(where: object, what: str) -> str | None:
    """The stored form, `[[path, operator, value], ...]`, equal for equal filters; None for no condition.

    `what` names it in errors. Raises DefinitionError.
    """
    if where is None:
        return None
    if not isinstance(where, Mapping):
        raise DefinitionError(f"{what} takes a mapping of paths to values, such as {{'order.id': 7}}, not {where!r}")
    conditions: list[list[Any]] = []
    for path, wanted in where.items():
        parts = _parts(path, what)
        for operator, value in _conditions(path, wanted, what):
            conditions.append([parts, operator, _value(operator, value, f"{what} {path!r}")])
    if len(conditions) > _MANY:
        raise DefinitionError(f"{what} has {len(conditions)} conditions; {_MANY} are allowed")
    if not conditions:
        return None
    return json.dumps(sorted(conditions, key=_order), ensure_ascii=False, separators=(",", ":"))


def fields_of(fields: str | Iterable[str] | None, what: str) -> tuple[str, ...] | None:
    """The paths of `fields=`, each once; None when there are none. Raises DefinitionError."""
    if fields is None:
        return None
    if not isinstance(fields, Iterable):
        raise DefinitionError(f"{what} takes the names of fields, such as ['status'], not {fields!r}")
    given = [fields] if isinstance(fields, str) else list(fields)
    for each in given:
        _parts(each, what)
    if not given:
        raise DefinitionError(f"{what} is empty: leave it away, or name a field")
    return tuple(dict.fromkeys(given))


def _order(condition: list[Any]) -> tuple[bool, str]:
    # An equality first: the database looks waits up by it.
    return condition[1] != "eq", json.dumps(condition)


def _parts(path: object, what: str) -> list[str]:
    if not isinstance(path, str) or not all(parts := path.split(".")):
        raise DefinitionError(f"{what} has the path {path!r}: give names separated by dots, such as 'order.id'")
    tree: list[str] = json.loads(_encoded(parts, f"{what} {path!r}"))
    return tree


def _conditions(path: object, wanted: object, what: str) -> Iterable[tuple[str, object]]:
    if not isinstance(wanted, Mapping):
        return [("eq", wanted)]
    unknown = [key for key in wanted if key not in _OPERATORS]
    if unknown or not wanted:
        raise DefinitionError(
            f"{what} {path!r} has {'no condition' if not wanted else f'the condition {unknown[0]!r}'}: conditions are "
            f"{', '.join(_OPERATORS)}; for something inside of it give a dotted path, for an equal object "
            '{"eq": {...}}'
        )
    return [(str(key), value) for key, value in wanted.items()]


def _value(operator: str, value: object, what: str) -> Any:
    if operator == "exists":
        if not isinstance(value, bool):
            raise DefinitionError(f"{what}: exists takes True or False, not {value!r}")
        return value
    if operator == "in":
        if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
            raise DefinitionError(f"{what}: in takes a list of values, not {value!r}")
        value = list(value)
    tree = json.loads(_encoded(value, what))
    if operator in _ORDERED and (isinstance(tree, bool) or not isinstance(tree, int | float | str)):
        raise DefinitionError(f"{what}: {operator} takes a number or text, not {value!r}")
    return tree


def _encoded(value: object, what: str) -> str:
    try:
        return codec.encode(value, what=what)
    except CodecError as error:
        raise DefinitionError(str(error)) from None
