"""JSON trees: values of only None, bool, int, float, str, lists and dicts with text keys, and their text.

Never looks at annotations and never changes a tree that it is given. The invariant: text that `to_text` returns is
accepted and kept exactly by PostgreSQL's `json`, `->>` works on it, and `from_text` gives back an equal tree.

NUL, which PostgreSQL refuses, is stored as U+2400 followed by "0"; U+2400 itself is stored doubled. Any other text is
stored as it is. U+2400 followed by "c" begins what a codec has sealed (see `sealing`), which is refused here.
"""

from __future__ import annotations

import json
import json.encoder
import math
import re
from collections.abc import Callable, Collection
from typing import Any, Final, NoReturn, cast

__all__ = ["ATOMS", "MAX_DEPTH", "SEAL", "Refused", "from_text", "is_plain", "sealed_by", "show_type", "to_text"]

MAX_DEPTH: Final = 200
"""How deep lists and objects may be nested."""

_ESCAPE: Final = "\u2400"
SEAL: Final = _ESCAPE + "c"
"""What a string that holds a sealed text begins with; the name of its codec and a colon follow."""
_ESCAPED: Final = re.compile("\u2400([0\u2400])")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
# At this length a text can hold MAX_DEPTH + 1 opened and closed brackets.
_DEEP_TEXT: Final = 2 * MAX_DEPTH + 2
ATOMS: Final = frozenset({type(None), bool, int, float, str})
"""The types of trees without parts."""
_KEYS: Final = {str}
_SHOWN_PARTS: Final = 8
# Up to this many members a loop is faster than a set of their types.
_FEW: Final = 16


class Refused(Exception):
    """A value that does not fit, with the path to it, innermost part first; `codec` turns it to a CodecError."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.parts: list[str | int] = []

    def at(self, part: str | int) -> Refused:
        """Add the index or the key that led here; returns itself."""
        self.parts.append(part)
        return self

    @property
    def path(self) -> str:
        """The path from the root, such as `$.items[3].price`."""
        shown = "$"
        parts = self.parts[::-1]
        if len(parts) > 2 * _SHOWN_PARTS:
            parts = [*parts[:_SHOWN_PARTS], "...", *parts[-_SHOWN_PARTS:]]
        for part in parts:
            if isinstance(part, int):
                shown += f"[{part}]"
            elif part.isidentifier():
                shown += f".{part}"
            else:
                shown += f"[{part if len(part) <= 40 else part[:37] + '...'!a}]"
        return shown


def show_type(value: object) -> str:
    """The type's name for a message: short for builtins, with its module for others."""
    cls = value if isinstance(value, type) else type(value)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def is_plain(value: object) -> bool:
    """Whether `value` is a tree of exact builtin types (tuples are not) with text keys, no deeper than MAX_DEPTH."""
    return type(value) in ATOMS or _is_plain(value, 1)


def _is_plain(value: object, depth: int) -> bool:
    # The casts are checked by `type is`; isinstance would let subclasses with their own rules through.
    if type(value) is dict:
        table = cast("dict[object, object]", value)
        if len(table) <= _FEW:
            for key in table:
                if type(key) is not str:
                    return False
        elif set(map(type, table)) != _KEYS:
            return False
        return _all_plain(table.values(), depth)
    return type(value) is list and _all_plain(cast("list[object]", value), depth)


def _all_plain(members: Collection[object], depth: int) -> bool:
    if len(members) <= _FEW or not set(map(type, members)) <= ATOMS:
        for member in members:
            if type(member) not in ATOMS and (depth >= MAX_DEPTH or not _is_plain(member, depth + 1)):
                return False
    return True


def _not_a_tree(value: object) -> NoReturn:
    raise Refused(f"{show_type(value)} is no JSON value")


def _make_writer() -> Callable[[Any], str]:
    compiled: Any = getattr(json.encoder, "c_make_encoder", None)
    text = json.encoder.encode_basestring
    if compiled is None:
        return json.JSONEncoder(
            ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":"), default=_not_a_tree
        ).encode
    # JSONEncoder builds this object anew for each value, which costs more than a small value does.
    write = compiled(None, _not_a_tree, text, None, ":", ",", False, False, False)

    def writer(tree: Any) -> str:
        if type(tree) is str:
            return text(tree)
        if tree is None:
            return "null"
        return "".join(write(tree, 0))

    return writer


_write: Final = _make_writer()


def to_text(tree: Any) -> str:
    """Write a tree as compact JSON, key order kept. Raises Refused with the path to what JSON cannot hold."""
    try:
        if type(tree) is int:
            return int.__repr__(tree)
        text = _write(tree)
    except (ValueError, RecursionError):
        _diagnose(tree, 1)
        raise Refused("the value cannot be written as JSON") from None
    if not text.isascii():
        if _SURROGATE.search(text) is not None:
            _diagnose(tree, 1)
        if _ESCAPE in text:
            return _write(_escape(tree))
    if "\\u0000" in text:
        return _write(_escape(tree))
    if len(text) >= _DEEP_TEXT and text.count("[") + text.count("{") > MAX_DEPTH:
        _diagnose(tree, 1)
    return text


def _diagnose(value: Any, depth: int) -> None:
    """Raise Refused at the first thing that JSON or PostgreSQL cannot hold; return when there is none."""
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, float) and not math.isfinite(value):
        raise Refused(f"float {value!r} has no JSON form: finite floats are allowed; store None or a str instead")
    elif isinstance(value, int):
        try:
            int.__repr__(value)
        except ValueError:
            raise Refused(
                f"an int of about {int(value.bit_length() * 0.30103) + 1} digits is too long: 4300 digits are allowed; "
                "store it as bytes or hex text"
            ) from None
    elif isinstance(value, dict | list | tuple):
        if depth > MAX_DEPTH:
            raise Refused(f"nested deeper than {MAX_DEPTH} levels, or circular: flatten it, or store a reference")
        for part, member in value.items() if isinstance(value, dict) else enumerate(value):
            try:
                if isinstance(part, str):
                    _check_text(part)
                _diagnose(member, depth + 1)
            except Refused as refused:
                raise refused.at(part) from None


def _check_text(text: str) -> None:
    found = _SURROGATE.search(text)
    if found is not None:
        raise Refused(
            f"str with a lone surrogate ({found[0]!a} at index {found.start()}) is no Unicode text: "
            "decode the bytes with errors='replace', or store bytes"
        )


def _escape(tree: Any) -> Any:
    if isinstance(tree, str):
        return tree.replace(_ESCAPE, _ESCAPE + _ESCAPE).replace("\0", _ESCAPE + "0")
    if isinstance(tree, dict):
        return {_escape(key): _escape(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_escape(item) for item in tree]
    return tree


def _unescape(tree: Any) -> Any:
    if isinstance(tree, str):
        return _ESCAPED.sub(lambda found: "\0" if found[1] == "0" else _ESCAPE, tree) if _ESCAPE in tree else tree
    if isinstance(tree, dict):
        return {_unescape(key): _unescape(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_unescape(item) for item in tree]
    return tree


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise Refused(f"the number {text[:40]} is beyond the range of float: store it as text")
    return number


def _no_constant(text: str) -> NoReturn:
    raise Refused(f"{text} is no JSON")


_decoder: Final = json.JSONDecoder(parse_float=_finite, parse_constant=_no_constant)
_scan: Final[Callable[[str, int], tuple[Any, int]]] = _decoder.scan_once  # type: ignore[attr-defined]


def from_text(text: str) -> Any:
    """Read JSON text to a fresh tree. Raises Refused when it is no JSON or holds a number that Python cannot."""
    try:
        try:
            tree, end = _scan(text, 0)
        except StopIteration:
            end = -1
        if end != len(text):
            # Space around the value, or an error that the slower reader words well.
            tree = _decoder.decode(text)
    except RecursionError:
        raise Refused("the stored text is nested too deep to be read") from None
    except ValueError as error:
        raise Refused(f"the stored text is no valid JSON ({error}); it starts with {text[:40]!a}") from None
    if _ESCAPE in text or "\\u2400" in text:
        if isinstance(tree, str) and tree.startswith(SEAL):
            raise Refused(
                f"it is encoded with the codec {sealed_by(tree)!r}, which does not decode it here: "
                "give that codec to Settings(codec=...)"
            )
        return _unescape(tree)
    return tree


def sealed_by(held: str) -> str:
    """The name of the codec, of a string that begins with `SEAL`."""
    return held[len(SEAL) :].partition(":")[0]
