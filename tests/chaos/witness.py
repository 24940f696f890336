"""The witness: what happened, told by the processes themselves and kept outside of the engine.

Each process appends JSON lines with one write(2) to a file that is open with O_APPEND. The page cache survives a
SIGKILL of the writer, so a line that was written is there. It says nothing unless `CHAOS_WITNESS` names the file; so
the same code can be replayed in silence.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from flowgen import RunRef, Token
from flowgen.errors import ChildCancelled, ChildTimedOut, OutcomeError, StepTimedOut, WaitTimedOut

VARIABLE = "CHAOS_WITNESS"

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


class Witness:
    """One process's end of the file. Identified by `who`: a pid may come again, this may not."""

    def __init__(self, path: str) -> None:
        self.who = f"{os.getpid()}-{secrets.token_hex(3)}"
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)

    def say(self, event: str, **facts: Any) -> None:
        line = json.dumps({"e": event, "who": self.who, "t": time.monotonic(), **facts}, separators=(",", ":"))
        os.write(self._file, line.encode() + b"\n")


class _Warnings(logging.Handler):
    """Tells the witness what the engine warns of: a lost lease explains a second call."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f": {record.exc_info[1]!r}"
        say("log", level=record.levelname, name=record.name, text=text[:1000])


STALL = 0.4
"""Seconds between two looks of a thread that sleeps for a tenth of one, from which on the process counts as stalled."""


def _watch() -> None:
    """Tell when this process had no time to itself: on a machine that is loaded, or stopped by a signal."""
    pause, last = threading.Event(), time.monotonic()
    while True:
        pause.wait(0.1)
        now = time.monotonic()
        if now - last > STALL:
            say("stall", since=last)
        last = now


_witness: Witness | None = None


def open_from_environment() -> bool:
    """Open the file that `CHAOS_WITNESS` names; whether it was opened now, which is once in a process."""
    global _witness
    path = os.environ.get(VARIABLE)
    opens = bool(path) and _witness is None
    if path and opens:
        _witness = Witness(path)
        os.environ["PGOPTIONS"] = f"-c chaos.who={_witness.who}"  # so that the audit knows whose write it is
        say("up", pid=os.getpid(), parent=os.getppid())
        threading.Thread(target=_watch, name="chaos-stall", daemon=True).start()
        handler = _Warnings(logging.WARNING)
        for name in ("flowgen", "asyncio"):
            logging.getLogger(name).addHandler(handler)
    return opens


def say(event: str, **facts: Any) -> None:
    """Append one line; nothing when there is no witness."""
    if _witness is not None:
        _witness.say(event, **facts)


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """The complete lines of a witness file, in the order of their writing."""
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


def plain(value: Any) -> Any:
    """A value as the store has it, whichever side it was taken from."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, str) and _MOMENT.match(value):
        return datetime.fromisoformat(value).astimezone(UTC).isoformat()
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, RunRef):
        given = None if value.id == str(value.run_id) else value.id
        return {"run_id": str(value.run_id), "id": given, "by": value.by}
    if isinstance(value, Token):
        due_at = None if value.due_at is None else value.due_at.isoformat()
        return {"run_id": str(value.run_id), "id": str(value.id), "text": value.text, "due_at": due_at}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


def digest(value: Any) -> str:
    """A short hash of a plain value."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def of_value(value: Any) -> str:
    """The hash of a value that a handler was sent."""
    return digest(["value", value])


def of_error(error: OutcomeError) -> str:
    """The hash of an error that was thrown into a handler."""
    if isinstance(error, StepTimedOut | ChildTimedOut | WaitTimedOut):
        return digest(["timeout"])
    if isinstance(error, ChildCancelled):
        return digest(["cancellation"])
    return digest(["failure", error.failure.type, error.failure.message])


def of_stored(status: int, value: str | None) -> str:
    """The hash of an outcome as it is stored; equal to that of what the handler was sent."""
    if status == 1:
        return digest(["value", json.loads(value or "null")])
    if status == 3:
        return digest(["timeout"])
    if status == 4:
        return digest(["cancellation"])
    failure = json.loads(value or "{}")
    return digest(["failure", failure.get("type"), failure.get("message")])
