"""The witness: a file that knows nothing of flowgen, in which the body of every step says when it begins and ends.

A line is one `os.write` on a descriptor that only appends: threads and processes cannot mix two of them, and what a
killed process has written stays. A body stands still where a file asks it to, so that a kill surely finds it in flight.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import attrs

import flowgen


@attrs.frozen
class Line:
    """Something that happened to a body: begun, held, failed or finished."""

    what: str
    run: str
    body: str
    attempt: int
    pid: int
    at: int
    """Nanoseconds of the monotonic clock, which all processes of a machine share."""


def read(folder: Path) -> list[Line]:
    """All that was said so far; not the line that is being written."""
    file = folder / "witness.jsonl"
    said = file.read_text() if file.exists() else ""
    return [Line(**json.loads(line)) for line in said[: said.rfind("\n") + 1].splitlines()]


def marker(folder: Path, body: str, where: str) -> Path:
    """The file that asks a body to stand still at its start, or at its end, when all is done but the commit."""
    return folder / f"hold-{body}-{where}"


@contextmanager
def body(name: str) -> Generator[None]:
    """Around what a step's function does: say that it begins, and how it ends."""
    folder = Path(os.environ["DEMO_FOLDER"])
    _say(folder, "begun", name)
    _stand_still(folder, name, "start")
    try:
        yield
    except Exception:
        _say(folder, "failed", name)
        raise
    _stand_still(folder, name, "end")
    _say(folder, "finished", name)


def _say(folder: Path, what: str, name: str) -> None:
    step = flowgen.current()
    line = Line(what, step.run_id, name, step.attempt, os.getpid(), time.monotonic_ns())
    descriptor = os.open(folder / "witness.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, (json.dumps(attrs.asdict(line)) + "\n").encode())
    finally:
        os.close(descriptor)


def _stand_still(folder: Path, name: str, where: str) -> None:
    asked = marker(folder, name, where)
    if asked.exists():
        _say(folder, "held", name)
        while asked.exists():
            time.sleep(0.005)
