"""What may be a name or an id: stated once, for everything that an author or a caller names.

    a name   of a definition, command, queue, tag, schedule, scope or App: 1 to 200 bytes of UTF-8, without control
             characters and line separators, `/` and `#` (which keys are made with), and not only white space
    an id    of a run, or a correlation id: 1 to 512 bytes of UTF-8, the same but for `/` and `#`
    a schema 1 to 63 bytes of characters that can be printed; not what PostgreSQL keeps for itself

Everything else is a name: quotes, backslashes, braces, `%s`, `$1`, any script in any direction. The invariant: what is
refused here could not be stored or shown; what is taken reaches the database as a parameter and comes back as it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeAlias

from flowgen.errors import DefinitionError

__all__ = [
    "MAX_ID",
    "MAX_NAME",
    "MAX_SCHEMA",
    "Named",
    "check_id",
    "check_key",
    "check_name",
    "check_schema",
    "check_tags",
    "step_name",
]

Named: TypeAlias = str | Callable[..., Any]
"""How an author names a step: by its name, or by the definition or function that it calls."""

MAX_NAME: Final = 200
"""Bytes of UTF-8 that a name may have."""
MAX_ID: Final = 512
"""Bytes of UTF-8 that an id may have: one row of an index has to hold it."""
MAX_KEY: Final = 1 << 20
"""Bytes of UTF-8 that the key of a command may have: names beside names, as deep as it stands."""
MAX_SCHEMA: Final = 63
"""Bytes of UTF-8 that PostgreSQL's identifiers may have."""

_CONTROL: Final = r"\x00-\x1f\x7f-\x9f\u2028\u2029"
_NAME: Final = re.compile(rf"[^{_CONTROL}/#]+")
_ID: Final = re.compile(rf"[^{_CONTROL}]+")
_BODY_TAG: Final = "$function$"
"""What stands around the body of a function of the schema, whose name stands inside."""
_SHOWN: Final = 60


def check_name(name: object, what: str) -> str:
    """The name, if it is one; `what` it is of stands in the error. Raises DefinitionError that says what was seen."""
    return _checked(name, what, "name", _NAME, MAX_NAME, "control characters, '/' or '#'")


def check_id(id: object, what: str = "the id of a run") -> str:
    """The id, if it is one. Raises DefinitionError that says what was seen."""
    return _checked(id, what, "id", _ID, MAX_ID, "control characters")


def check_tags(tags: object) -> tuple[str, ...]:
    """The tags, given as one or several. Raises DefinitionError that says what was seen."""
    several = [tags] if isinstance(tags, str) else tags
    if not isinstance(several, Iterable) or isinstance(several, bytes):
        raise DefinitionError(f"tags= takes names, such as ['eu', 'gold'], not {_seen(tags)}")
    return tuple(check_name(tag, "a tag") for tag in several)


def check_key(key: object, what: str = "the key of a command") -> str:
    """The key, if a command of some run can have it. Raises DefinitionError that says what was seen."""
    return _checked(key, what, "key", _ID, MAX_KEY, "control characters")


def check_schema(schema: object) -> str:
    """The name of a PostgreSQL schema, if it is one; it is always quoted. Raises DefinitionError."""
    if not isinstance(schema, str):
        raise DefinitionError(f"schema must be a string, not {_seen(schema)}")
    size = len(schema.encode(errors="replace"))
    problem = None
    if not schema.strip():
        problem = "is empty"
    elif not schema.isprintable():
        problem = "holds a character that cannot be printed"
    elif size > MAX_SCHEMA:
        problem = f"has {size} bytes, of at most {MAX_SCHEMA}"
    elif schema.lower().startswith("pg_"):
        problem = "begins with pg_, which PostgreSQL keeps for itself"
    elif schema == "information_schema":
        problem = "is PostgreSQL's own"
    elif _BODY_TAG in schema:
        problem = f"holds {_BODY_TAG}"
    if problem:
        raise DefinitionError(f"schema {_shown(schema)} {problem}: give another name, such as 'flowgen'")
    return schema


def step_name(step: object) -> str:
    """The name that a string, a definition or a function gives a step. Raises DefinitionError for anything else."""
    if isinstance(step, str):
        return step
    name = getattr(step, "name", None) or getattr(step, "__name__", None)
    if not isinstance(name, str):
        raise DefinitionError(f"a step is named by a string, a task or a function, not by {step!r}")
    return name


def _checked(value: object, what: str, kind: str, allowed: re.Pattern[str], most: int, banned: str) -> str:
    if not isinstance(value, str):
        raise DefinitionError(f"{what} must be a string, not {_seen(value)}")
    if not value.strip() or not allowed.fullmatch(value):
        raise DefinitionError(
            f"{what} {_shown(value)} is not a{'n' if kind == 'id' else ''} {kind}: "
            f"it must not be empty and must have no {banned}"
        )
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise DefinitionError(f"{what} {_shown(value)} has lone surrogates, which cannot be stored") from None
    if size > most:
        raise DefinitionError(f"{what} {_shown(value)} has {size} bytes; {most} are allowed")
    return value


def _shown(value: str) -> str:
    return repr(value) if len(value) <= _SHOWN else f"{value[:_SHOWN]!r}..."


def _seen(value: object) -> str:
    kind = f"of type {type(value).__name__}"
    return f"{value!r} {kind}" if isinstance(value, int | None) and abs(value or 0) < 1 << 64 else f"a value {kind}"
