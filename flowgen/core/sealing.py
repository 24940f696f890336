"""The seal: a user's `Codec` around the texts that are stored, and what tells a sealed text from a plain one.

A sealed text is one JSON string, `"␀c<name>:<what encode gave>"`, with U+2400 for ␀. No value of a user's looks like
that, as U+2400 in values is stored doubled (see `trees`). So both kinds may stand side by side in any column, SQL may
carry either without reading it, and a process without the codec knows what it has before it. The invariant: `opened`
returns the very text that `closed` was given; an error names the codec, and quotes neither a value nor its words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final

import attrs

from flowgen.core import codec
from flowgen.core.codec import Codec
from flowgen.core.entries import Entry, EntryKind, Message, MessageKind, OutcomeKind
from flowgen.core.settings import Settings
from flowgen.core.trees import SEAL, sealed_by
from flowgen.errors import CodecError

__all__ = ["Seal", "is_sealed", "words"]

_SEALED: Final = f'"{SEAL}'
_UNFIT: Final = re.compile("[\0\ud800-\udfff]")
_KINDS: Final = frozenset({EntryKind.OUTCOME, EntryKind.ATTEMPT, EntryKind.CHECKPOINT, EntryKind.ENDING})
"""Entries with values of the user's; the others hold ids and indexes."""
_WHOLE: Final = frozenset({MessageKind.SIGNAL, MessageKind.TOKEN})
"""Messages whose payload is sealed as a whole."""
_TELL: Final = frozenset({MessageKind.CHILD, MessageKind.EVENT})
_TOLD: Final = re.compile(
    rf'(\{{"(?:status":"(?:completed","output|failed","error)|payload)":)({_SEALED}[^"\\]*+(?:\\.[^"\\]*+)*+")(.*)',
    re.DOTALL,
)


def is_sealed(text: str) -> bool:
    """Whether a stored text is sealed, by whatever codec."""
    return text.startswith(_SEALED)


def words(text: str) -> str | None:
    """What to show in the place of a sealed text; None for a plain one."""
    return f"encoded with {sealed_by(json.loads(text))!r}" if is_sealed(text) else None


def _names_child(entry: Entry) -> bool:
    """Whether it is what a Start came to: the ids of a run, which the store reads too."""
    started = entry.kind == EntryKind.OUTCOME and entry.status == OutcomeKind.VALUE
    return started and entry.fingerprint is not None and entry.fingerprint.startswith("start:")


class Seal:
    """The codec of one process. What goes in comes out as a copy; what is plain opens as it is."""

    def __init__(self, codec: Codec, limit: int) -> None:
        """`limit` is in bytes of what is stored."""
        self._codec = codec
        self._limit = limit
        self._prefix = f"{SEAL}{codec.name}:"

    @classmethod
    def of(cls, settings: Settings) -> Seal | None:
        """None when the settings have no codec."""
        return None if settings.codec is None else cls(settings.codec, settings.max_payload)

    def closed(self, text: str, what: str) -> str:
        """The sealed text; one that is sealed already stays as it is. Raises CodecError that names `what`."""
        if is_sealed(text):
            return text
        try:
            encoded: object = self._codec.encode(text)
        except Exception as error:
            raise CodecError(f"{what} {self._failed('encode', error)}") from None
        if not isinstance(encoded, str) or _UNFIT.search(encoded):
            raise CodecError(f"{what} {self._unfit('encode', encoded)}")
        stored = json.dumps(self._prefix + encoded, ensure_ascii=False)
        codec.check_size(stored, what=f"{what}, encoded with {self._codec.name!r},", limit=self._limit)
        return stored

    def opened(self, text: str, what: str) -> str:
        """The plain text. Raises CodecError that names `what` and the codec, also when that is another one."""
        if not is_sealed(text):
            return text
        held: str = json.loads(text)
        if not held.startswith(self._prefix):
            raise CodecError(
                f"{what} is encoded with the codec {sealed_by(held)!r}, and here is {self._codec.name!r}: "
                "give that one to Settings(codec=...), or one of its name that reads both"
            )
        try:
            decoded: object = self._codec.decode(held[len(self._prefix) :])
        except Exception as error:
            raise CodecError(f"{what} {self._failed('decode', error)}") from None
        if not isinstance(decoded, str):
            raise CodecError(f"{what} {self._unfit('decode', decoded)}")
        return decoded

    def readable(self, text: str | None) -> str | None:
        """As `opened`; what cannot be opened stays sealed, for whoever reads it to say so."""
        if text is None or not is_sealed(text):
            return text
        try:
            return self.opened(text, "it")
        except CodecError:
            return text

    def close_entry(self, entry: Entry) -> Entry:
        """The entry as it is stored. Raises CodecError that names its command."""
        if entry.value is None or entry.kind not in _KINDS or _names_child(entry):
            return entry
        what = f"what is recorded of {entry.key}" if entry.key else "what is recorded of the run"
        return attrs.evolve(entry, value=self.closed(entry.value, what))

    def open_entries(self, entries: Iterable[Entry]) -> list[Entry]:
        """Stored entries as they were made. Raises CodecError that names the command."""
        return [
            entry
            if entry.value is None or not is_sealed(entry.value)
            else attrs.evolve(entry, value=self.opened(entry.value, f"what is recorded of {entry.key or 'the run'}"))
            for entry in entries
        ]

    def open_messages(self, messages: Iterable[Message]) -> list[Message]:
        """Messages with what they hold of the user's opened; what cannot be opened stays sealed."""
        return [self._open_message(each) if _SEALED in each.payload else each for each in messages]

    def _open_message(self, message: Message) -> Message:
        if message.kind in _WHOLE:
            return attrs.evolve(message, payload=self.readable(message.payload) or "null")
        if message.kind == MessageKind.RETRY:
            said = json.loads(message.payload)
            if "value" in said.get("step", ()):
                said["step"]["value"] = self.readable(said["step"]["value"])
            return attrs.evolve(message, payload=json.dumps(said, ensure_ascii=False))
        found = _TOLD.fullmatch(message.payload) if message.kind in _TELL else None
        if found is None:
            return message
        return attrs.evolve(message, payload=f"{found[1]}{self.readable(found[2])}{found[3]}")

    def close_reason(self, text: str) -> str:
        """Why a run is parked, with its detail sealed. What the codec refuses is left out, and that is said."""
        said = codec.decode(text)
        detail = codec.encode(said.get("detail"))
        try:
            held = self.closed(detail, "the detail")
        except CodecError as error:
            held = codec.encode(str(error))
        return f'{{"reason":{codec.encode(said.get("reason"))},"detail":{held}}}'

    def open_reason(self, text: str) -> str:
        """What `close_reason` was given; a detail that cannot be opened stays sealed."""
        if _SEALED not in text:
            return text
        said = json.loads(text)
        detail = json.dumps(said.get("detail"), ensure_ascii=False)
        return f'{{"reason":{json.dumps(said.get("reason"), ensure_ascii=False)},"detail":{self.readable(detail)}}}'

    def close_cancellation(self, text: str) -> str:
        """Why a run was cancelled, with what could not be undone sealed; the reason is its operator's, and plain."""
        said = codec.decode(text)
        if "not_undone" not in said:
            return text
        try:
            held = self.closed(codec.encode(said["not_undone"]), "what was not undone")
        except CodecError as error:
            held = codec.encode(str(error))
        return f'{{"reason":{codec.encode(said.get("reason"))},"not_undone":{held}}}'

    def open_cancellation(self, text: str) -> str:
        """What `close_cancellation` was given; what cannot be opened stays sealed."""
        if _SEALED not in text:
            return text
        said = json.loads(text)
        held = self.readable(json.dumps(said.get("not_undone"), ensure_ascii=False))
        return f'{{"reason":{json.dumps(said.get("reason"), ensure_ascii=False)},"not_undone":{held}}}'

    def _failed(self, verb: str, error: Exception) -> str:
        # The codec's own words may quote what it was given.
        return f"cannot be {verb}d: the codec {self._codec.name!r} raised {type(error).__name__}"

    def _unfit(self, verb: str, found: object) -> str:
        seen = "text with NUL or lone surrogates" if isinstance(found, str) else type(found).__name__
        return f"cannot be {verb}d: {verb} of the codec {self._codec.name!r} gave {seen}, a str was expected"
