"""A trace: what one run was asked, what is recorded of it and how it ended, portable as JSON.

The unit of tests, export, import and debugging: `client.trace` makes one of a run in production, `drive` one of a run
that never touched a database, `replay` takes either. It never runs code. The invariant: `from_json(to_json())` equals
the trace, and every stored text in it is the same, character by character.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Generic

import attrs
from typing_extensions import TypeVar

from flowgen.core import codec
from flowgen.core.entries import Entry
from flowgen.core.failures import failure_from_json
from flowgen.errors import CodecError, Failure

__all__ = ["TRACE_VERSION", "Trace"]

T_co = TypeVar("T_co", covariant=True, default=Any)

TRACE_VERSION: Final = 1
"""Of the file's form."""

_TEXT: Final = "_text"


@attrs.frozen(kw_only=True)
class Trace(Generic[T_co]):
    """The history of one run with its input and its end."""

    name: str
    """Of the definition."""
    kind: str
    input: str
    """JSON text of the bound arguments."""
    items: tuple[Entry, ...] = ()
    """Every entry in index order, those that were set aside too."""
    base: int = 0
    """Index of the checkpoint that opened the current segment; 0 when there is none."""
    prologue: int = 0
    """Entries below it are the prologue."""
    output: str | None = None
    """JSON text of the result of a completed run."""
    error: str | None = None
    """JSON text of the failure of a failed run; `{"reason": ...}` of a cancelled or parked one."""
    status: str | None = None
    """`RunStatus` when the trace was taken."""
    run_id: str | None = None
    version: int = TRACE_VERSION
    value: T_co | None = attrs.field(default=None, eq=False, repr=False)
    commands: list[Any] = attrs.field(factory=list, eq=False, repr=False)
    """What the handler yielded, when this process has seen it; not part of the file."""

    @property
    def result(self) -> T_co:
        """What the run returned; None unless it completed. A trace that was loaded gives it as plain JSON values."""
        found: Any = self.value
        if found is None and self.output is not None:
            found = codec.decode(self.output, what="the trace's output")
        result: T_co = found
        return result

    @property
    def failure(self) -> Failure | None:
        """What the run failed with; None when it did not fail."""
        return failure_from_json(self.error) if self.error is not None and self.status == "failed" else None

    def to_json(self) -> str:
        """The trace as readable JSON: payloads stand in it as they are, or as text where JSON would change them."""
        head: dict[str, Any] = {"flowgen_trace": self.version, "run_id": self.run_id, "name": self.name}
        head |= {"kind": self.kind, "status": self.status}
        _put(head, "input", self.input)
        head |= {"base": self.base, "prologue": self.prologue, "items": [_item(entry) for entry in self.items]}
        _put(head, "output", self.output)
        _put(head, "error", self.error)
        return json.dumps(head, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Trace[Any]:
        """Read what `to_json` wrote. Raises CodecError that says what does not fit."""
        try:
            head = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CodecError(f"this is no trace: not JSON ({error})") from None
        if not isinstance(head, Mapping) or "flowgen_trace" not in head:
            raise CodecError('this is no trace: a JSON object with "flowgen_trace" was expected')
        if head["flowgen_trace"] != TRACE_VERSION:
            raise CodecError(
                f"this trace has the form {head['flowgen_trace']!r}; this version of flowgen reads form {TRACE_VERSION}"
            )
        try:
            return Trace(
                name=_typed(head, "name", str),
                kind=_typed(head, "kind", str),
                input=_get(head, "input") or "{}",
                items=tuple(_entry(item) for item in head.get("items", ())),
                base=_typed(head, "base", int),
                prologue=_typed(head, "prologue", int),
                output=_get(head, "output"),
                error=_get(head, "error"),
                status=head.get("status"),
                run_id=head.get("run_id"),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CodecError(f"this trace cannot be read: {type(error).__name__}: {error}") from None

    def save(self, path: str | Path) -> None:
        """Write it to a file."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Trace[Any]:
        """Read it from a file. Raises CodecError, and OSError when the file cannot be read."""
        return cls.from_json(Path(path).read_text(encoding="utf-8"))


def _item(entry: Entry) -> dict[str, Any]:
    item: dict[str, Any] = {"index": entry.index, "key": entry.key, "kind": int(entry.kind)}
    for name in ("fingerprint", "status", "attempt"):
        if getattr(entry, name) is not None:
            item[name] = getattr(entry, name)
    _put(item, "value", entry.value)
    if entry.due_at is not None:
        item["due_at"] = entry.due_at.isoformat()
    if entry.named:
        item["named"] = True
    if entry.recorded_at is not None:
        item["recorded_at"] = entry.recorded_at.isoformat()
    return item


def _entry(item: Mapping[str, Any]) -> Entry:
    return Entry(
        index=_typed(item, "index", int),
        key=_typed(item, "key", str),
        kind=_typed(item, "kind", int),
        fingerprint=item.get("fingerprint"),
        status=item.get("status"),
        attempt=item.get("attempt"),
        value=_get(item, "value"),
        due_at=_time(item.get("due_at")),
        named=bool(item.get("named", False)),
        recorded_at=_time(item.get("recorded_at")),
    )


def _put(into: dict[str, Any], name: str, text: str | None) -> None:
    """Put a payload in as JSON when reading it back gives the very same text, else as text."""
    if text is None:
        return
    try:
        value = json.loads(text)
        exact = _compact(value) == text
    except (ValueError, RecursionError):
        exact = False
    if exact:
        into[name] = value
    else:
        into[name + _TEXT] = text


def _get(of: Mapping[str, Any], name: str) -> str | None:
    if name + _TEXT in of:
        return str(of[name + _TEXT])
    return _compact(of[name]) if name in of else None


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _typed(of: Mapping[str, Any], name: str, kind: type) -> Any:
    value = of[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}, {kind.__name__} was expected")
    return value


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
