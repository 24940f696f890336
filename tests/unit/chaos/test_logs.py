"""What a worker may say while the chaos harness is at work: each text is listed, or is the sign of a defect."""

from __future__ import annotations

import ast
from pathlib import Path

import flowgen
from tests.chaos.leftovers import KNOWN

WORKER = Path(flowgen.__file__).parent / "worker"
DEFECTS = {
    "nobody will be named who holds an old snapshot, as it cannot be seen here: %s",
    "%s",
    "%s (%s) could not be driven",
    "%s (%s): %s",
    "run %s: %s",
    "no thread can be started (%s): %s of %s run",
    "%s: its progress cannot be stored: %s",
    "%s: the result of %s has %d MiB of JSON; store it elsewhere and return a reference",
    "%s (%s) cannot be read: %s",
    "the schedule %s/%s cannot tick here: %s",
    "run %s cannot be read, and is parked: %s",
}
"""What nothing in the workload gives a reason for."""
SAMPLES = {"%s": "0-0", "%d": "1", "%.1f": "1.0"}


def said() -> set[str]:
    """The first argument of every call of a logger's warning, error and exception."""
    found: set[str] = set()
    for path in WORKER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("warning", "error", "exception")
                and "log" in ast.unparse(node.func.value)
                and isinstance(node.args[0], ast.Constant)
            ):
                found.add(str(node.args[0].value))
    return found


def test_every_warning_of_a_worker_is_known_or_a_defect() -> None:
    for text in said() - DEFECTS:
        for place, sample in SAMPLES.items():
            text = text.replace(place, sample)
        text = text.replace("(session 0-0)", f"(session {'0' * 8}-{'0' * 4}-{'0' * 4}-{'0' * 4}-{'0' * 12})")
        text = text.replace("process 0-0", "process 7").replace("code 0-0", "code 7")
        assert any(each.search(text) for each in KNOWN), text
    assert len(said()) > 8
