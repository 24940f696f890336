"""The invariants of what is left: I15 clean, I17 storage, I19 quiet."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tests.chaos.evidence import Evidence, Found, Violation

KNOWN = tuple(
    re.compile(pattern)
    for pattern in (
        r"the database does not answer as it should \(",
        r"the server has no connection left for a Transaction \(",
        r"the database does not answer yet \(",
        r"the database does not take this worker yet \(",
        r"this worker's lease is over \(session [0-9a-f-]{36}\)",
        r"\([0-9a-z-]+\) is owned elsewhere; it is dropped here",
        r"worker process \d+ died \(exit code -?\d+\); its runs go on elsewhere",
        r"the session of a dead process could not be ended yet: ",
        r"the session could not be released \(",
        r"has not come to its next yield for [0-9.]+ s",
    )
)
"""What a worker may say as a warning. Everything else is a defect, or belongs here."""


def clean(evidence: Evidence) -> Found:
    """I15: once every run has ended and every process has stopped, nothing is held, and nobody waits."""
    for what, count in evidence.left.items():
        if count:
            yield Violation("I15", "", f"{what}: {count}")


def storage(evidence: Evidence) -> Found:
    """I17: indexes, constraints and pages are whole."""
    for what, found in evidence.storage.items():
        if isinstance(found, int) and found:
            yield Violation("I17", "", f"{what}: {found}")


def quiet(evidence: Evidence) -> Found:
    """I19: what is said as a warning or an error is of a listed class; no traceback of the engine, and no secret."""
    said = set()
    for line in evidence.lines:
        if line["e"] == "log" and not any(each.search(line["text"]) for each in KNOWN):
            said.add(f"{line['level']} of {line['name']}: {line['text'][:300]}")
        if evidence.secret and line["e"] == "log" and evidence.secret in line["text"]:
            yield Violation("I19", "", "a log record has the password")
    for text in sorted(said):
        yield Violation("I19", "", text)
    for at, text in enumerate(evidence.logs):
        if evidence.secret and evidence.secret in text:
            yield Violation("I19", "", f"the output has the password: {text.replace(evidence.secret, '***')[:200]}")
        if text.startswith("Traceback (most recent call last)") and not _is_of_an_orphan(evidence.logs[at + 1 :]):
            yield Violation("I19", "", "the output has a traceback")


def _is_of_an_orphan(lines: Sequence[str]) -> bool:
    """What Python says in a process whose parent was killed while it started it: nothing of the engine ran there."""
    for line in lines:
        if not line.startswith(" "):
            return line == "EOFError: Ran out of input"
        if line.lstrip().startswith("File ") and not ("multiprocessing/spawn.py" in line or '"<string>"' in line):
            return False
    return False
