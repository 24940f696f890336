"""Failures: from an exception, however broken, to data that can always be stored.

Never pickles, never raises because of what the exception does, and never keeps the exception alive. The invariant:
`failure_to_json` of what `failure_from` returns is accepted by PostgreSQL, and no part of it is longer than the limit
and its notice. (The traceback module reads source files to quote their lines.)
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import PurePath
from types import TracebackType
from typing import Any, Final

from flowgen.core.codec import canonical, decode, encode
from flowgen.errors import CodecError, Failure

__all__ = ["DEFAULT_LIMIT", "failure_from", "failure_from_json", "failure_to_json"]

DEFAULT_LIMIT: Final = 64 * 1024
"""Bytes that a message, a traceback, and the details each may have."""

_PACKAGE: Final = str(PurePath(__file__).parent.parent)
_MAX_LISTED: Final = 100
_MAX_NESTED: Final = 5
_TYPE_LIMIT: Final = 200


def failure_from(error: BaseException, *, limit: int = DEFAULT_LIMIT) -> Failure:
    """Describe an exception; `limit` is in bytes of UTF-8, for the message, the traceback and each of the details.

    `details` hold `notes`, for a group its `exceptions`, and for an error that carries a Failure, that `failure`.
    """
    return Failure(
        type=_type_name(error),
        message=_cut(_message(error), limit),
        traceback=_traceback(error, limit),
        details=_details(error, max(limit // _MAX_LISTED, 64)),
    )


def failure_to_json(failure: Failure) -> str:
    """The JSON object of a failure."""
    plain = {
        "type": storable(failure.type),
        "message": storable(failure.message),
        "traceback": storable(failure.traceback),
    }
    try:
        return encode({**plain, "details": dict(failure.details)}, what="failure")
    except CodecError:
        # Details of the user's own making: shown as well as can be, for the failure itself must not be lost.
        return encode({**plain, "details": {"text": canonical(failure.details)}}, what="failure")


def failure_from_json(stored: str | bytes | Mapping[str, Any]) -> Failure:
    """The failure of a JSON object, as text or parsed already; parts that are missing or strange become empty.

    Raises:
        CodecError: when it is no JSON object.
    """
    tree = stored if isinstance(stored, Mapping) else decode(stored, what="failure")
    if not isinstance(tree, Mapping):
        raise CodecError(f"a stored failure is {type(tree).__name__}: an object was expected")
    details = tree.get("details")
    return Failure(
        type=str(tree.get("type") or "Unknown"),
        message=str(tree.get("message") or ""),
        traceback=str(tree.get("traceback") or ""),
        details=dict(details) if isinstance(details, Mapping) else {},
    )


def storable(text: str) -> str:
    """The text with NUL and lone surrogates as visible escapes, such as \\x00 and \\udc80."""
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()
    return text.replace("\0", "\\x00")


def _cut(text: str, limit: int, *, keep_end: bool = False) -> str:
    # Storable text is at most six times as long as what it is made of: what is far beyond is not copied for nothing.
    lost = max(len(text) - limit, 0)
    if lost:
        text = text[-limit:] if keep_end else text[:limit]
    data = storable(text).encode()
    over = max(len(data) - limit, 0)
    if not (lost or over):
        return data.decode()
    kept = (data[over:] if keep_end else data[: len(data) - over]).decode(errors="ignore")
    notice = f"...{over + lost} bytes dropped"
    return f"{notice}\n{kept}" if keep_end else f"{kept}{notice}"


def _type_name(error: BaseException) -> str:
    return _cut(type(error).__name__, _TYPE_LIMIT)


def _message(error: BaseException) -> str:
    try:
        # An exact str: a subclass could answer differently at each call.
        return str.__str__(str(error))
    except BaseException as raised:
        return f"<the message cannot be shown: str() raised {type(raised).__name__}>"


def _details(error: BaseException, share: int) -> dict[str, Any]:
    details: dict[str, Any] = {}
    try:
        notes = _notes(error, share)
        if notes:
            details["notes"] = notes
        if isinstance(error, BaseExceptionGroup):
            details["exceptions"] = _summaries(error, share, 1)
        carried = getattr(error, "failure", None)
        if isinstance(carried, Failure):
            details["failure"] = {"type": storable(carried.type), "message": _cut(carried.message, share)}
    except BaseException as raised:
        details["dropped"] = f"the details cannot be shown: {type(raised).__name__}"
    return details


def _notes(error: BaseException, share: int) -> list[str]:
    notes = getattr(error, "__notes__", None)
    if not isinstance(notes, list | tuple):
        return []
    return [_cut(note, share) for note in notes[:_MAX_LISTED] if isinstance(note, str)]


def _summaries(group: BaseExceptionGroup[BaseException], share: int, depth: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for error in group.exceptions[:_MAX_LISTED]:
        summary: dict[str, Any] = {"type": _type_name(error), "message": _cut(_message(error), share)}
        if isinstance(error, BaseExceptionGroup):
            if depth < _MAX_NESTED:
                summary["exceptions"] = _summaries(error, share // 2, depth + 1)
            else:
                summary["dropped"] = len(error.exceptions)
        found.append(summary)
    if len(group.exceptions) > _MAX_LISTED:
        found.append({"dropped": len(group.exceptions) - _MAX_LISTED})
    return found


def _traceback(error: BaseException, limit: int) -> str:
    try:
        shown = traceback.TracebackException(
            type(error), error, _users_part(error.__traceback__), limit=-_MAX_LISTED, compact=True
        )
        return _cut("".join(shown.format()), limit, keep_end=True)
    except BaseException as raised:
        return f"<the traceback cannot be shown: {type(raised).__name__}>"


def _users_part(start: TracebackType | None) -> TracebackType | None:
    """The traceback without the leading frames of this package; all of it when there are no others."""
    here = start
    while here is not None and here.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        here = here.tb_next
    return here if here is not None else start
