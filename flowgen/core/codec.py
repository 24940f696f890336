"""The codec: values to JSON text and back by their annotations.

Never pickles, never stores a class's name, never coerces. The invariant: `decode(encode(x, T), T)` is what a handler is
sent, on the first run and on every replay, and it equals `x` wherever T says enough. What cannot be kept is refused.

| value                                  | stored as                           | unannotated, comes back as |
|----------------------------------------|-------------------------------------|----------------------------|
| None, bool, int, float, str            | itself                              | itself                     |
| list, tuple, NamedTuple, deque         | list                                | list                       |
| dict, other mappings                   | object                              | dict                       |
| keys that are no str                   | their JSON text, by annotation only | refused                    |
| attrs class, dataclass, pydantic model | object of its init fields           | dict                       |
| TypedDict                              | object                              | dict                       |
| Enum                                   | the member's value                  | the value                  |
| datetime (aware), date, time           | ISO 8601; offset kept, zone name not| str                        |
| timedelta                              | ISO 8601 duration, "PT1H30M"        | str                        |
| UUID, Decimal, Path                    | str                                 | str                        |
| bytes                                  | base64, by annotation only          | refused                    |
| set, frozenset                         | sorted list, by annotation only     | refused                    |
| a type with hooks in `converter`       | what the hooks say                  | what the hook gives        |
| anything else                          | refused                             | refused                    |

Integers have up to 4300 digits, Python's own limit for text. NUL in text and keys is stored as U+2400 "0", U+2400 as
two of it. In a union, text that would be read as another member has a NUL and "=" before it.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from flowgen.core.annotations import converter, shape_of
from flowgen.core.canonical import canonical
from flowgen.core.trees import MAX_DEPTH, Refused, from_text, to_text
from flowgen.errors import CodecError

__all__ = [
    "MAX_DEPTH",
    "SIZE_LIMIT",
    "SIZE_WARNING",
    "Codec",
    "canonical",
    "check_size",
    "check_type",
    "converter",
    "decode",
    "encode",
    "size_warning",
    "structure",
]

SIZE_WARNING: Final = 1024 * 1024
"""Bytes of a payload from which `check_size` says so."""

SIZE_LIMIT: Final = 32 * 1024 * 1024
"""Bytes of a payload that `check_size` takes at most, unless it is told otherwise."""


class Codec(Protocol):
    """Compresses or encrypts what is stored: give one to `Settings(codec=...)` of every process of a database.

    It is given whole JSON texts, on the thread that asks: of a worker that is its event loop, so it must be quick.
    `encode` returns text without NUL and lone surrogates; `decode` returns exactly what `encode` was given, in every
    process. A codec that changes keeps its name and reads its own older forms. What is stored plain stays readable.
    """

    @property
    def name(self) -> str:
        """Stands before each text that it has encoded: a name as of a queue, without a colon."""
        ...

    def encode(self, text: str) -> str:
        """The text to store for this JSON text."""
        ...

    def decode(self, text: str) -> str:
        """The JSON text that `encode` was given."""
        ...


def encode(value: object, annotation: object = Any, *, what: str = "value") -> str:
    """Write `value` as compact JSON text by its annotation; `what` names it in errors.

    Raises:
        CodecError: with the path to what cannot be stored exactly, the type found and what is allowed.
    """
    try:
        shape = shape_of(annotation)
        return to_text(value if type(value) is shape.atom else shape.lower(value))
    except Refused as refused:
        raise _error(refused, what, "cannot be stored") from None
    except RecursionError:
        raise CodecError(f"{what} cannot be stored: it is nested too deep, or circular") from None
    except (CodecError, MemoryError):
        raise
    except Exception as raised:  # by a class of the author's
        raise CodecError(f"{what} cannot be stored: looking at it raised {type(raised).__name__}") from raised


def decode(text: str | bytes, annotation: object = Any, *, what: str = "value") -> Any:
    """Read JSON text to a fresh value of the annotated type.

    Raises:
        CodecError: with the path to what does not fit, the type found and what is allowed.
    """
    try:
        tree = from_text(text if isinstance(text, str) else text.decode())
        shape = shape_of(annotation)
        return tree if type(tree) is shape.atom else shape.lift(tree)
    except Refused as refused:
        raise _error(refused, what, "cannot be read") from None
    except UnicodeDecodeError as error:
        raise CodecError(f"{what} cannot be read: the stored bytes are no UTF-8 ({error.reason})") from None
    except RecursionError:
        raise CodecError(f"{what} cannot be read: it is nested too deep") from None


def check_type(annotation: object, *, what: str) -> None:
    """Raise CodecError, naming `what`, for a type that no value can be read as."""
    try:
        shape_of(annotation)
    except Refused as refused:
        raise CodecError(f"{what} has a type that cannot be read: {refused.reason}") from None


def structure(tree: object, annotation: object = Any, *, what: str = "value") -> Any:
    """Turn JSON that is parsed already to a value of the annotated type, which may keep parts of `tree`.

    Raises:
        CodecError: as `decode` does.
    """
    try:
        return shape_of(annotation).lift(tree)
    except Refused as refused:
        raise _error(refused, what, "cannot be read") from None
    except RecursionError:
        raise CodecError(f"{what} cannot be read: it is nested too deep") from None


def check_size(text: str, *, what: str, warn: int = SIZE_WARNING, limit: int = SIZE_LIMIT) -> bool:
    """Whether the text is longer than `warn` bytes of UTF-8.

    Raises:
        CodecError: when it is longer than `limit` bytes.
    """
    size = len(text)
    if size * 4 <= min(warn, limit):
        return False
    if not text.isascii():
        size = len(text.encode("utf-8", "surrogatepass"))
    if size > limit:
        raise CodecError(
            f"{what} is {size} bytes of JSON, over the limit of {limit}: "
            "store it elsewhere and pass a reference, or raise max_payload"
        )
    return size > warn


def size_warning(text: str, what: str) -> str:
    """What to say of a text that is longer than `SIZE_WARNING`."""
    return f"{what} is {len(text) / SIZE_WARNING:.1f} MiB of JSON: store it elsewhere and pass a reference"


def _error(refused: Refused, what: str, verb: str) -> CodecError:
    return CodecError(f"{what} {verb} at {refused.path}: {refused.reason}")
