"""The public API under mypy --strict and pyright strict: what they must accept, with which types, and must refuse."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MYPY_ERROR = re.compile(r"^(?P<file>[^:]+):(?P<line>\d+): error: (?P<message>.*)$")

Errors = dict[tuple[str, int], str]


def run(*command: str) -> str:
    done = subprocess.run([sys.executable, "-m", *command], cwd=HERE, capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


@cache
def mypy_errors() -> Errors:
    found: Errors = {}
    output = run(
        "mypy", "--strict", "--python-version=3.11", "--warn-unused-ignores", "--config-file=", "accepted", "refused"
    )
    for line in output.splitlines():
        if match := MYPY_ERROR.match(line):
            found[(match["file"], int(match["line"]))] = match["message"]
    return found


@cache
def pyright_errors() -> Errors:
    output = run("pyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(HERE))
    report = json.loads(output)
    assert report["summary"]["filesAnalyzed"] == len(files("accepted")) + len(files("refused"))
    found: Errors = {}
    for each in report["generalDiagnostics"]:
        if each["severity"] == "error":
            file = Path(each["file"]).relative_to(HERE).as_posix()
            found[(file, each["range"]["start"]["line"] + 1)] = each["message"]
    return found


def files(folder: str) -> list[str]:
    return sorted(path.relative_to(HERE).as_posix() for path in (HERE / folder).glob("*.py"))


def marked(file: str) -> set[int]:
    lines = (HERE / file).read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# refused")}


CHECKERS = {"mypy": mypy_errors, "pyright": pyright_errors}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize("file", files("accepted"))
def test_what_the_documentation_shows_has_the_types_that_it_says(checker: str, file: str) -> None:
    errors = {line: message for (where, line), message in CHECKERS[checker]().items() if where == file}
    assert errors == {}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize("file", files("refused"))
def test_a_wrong_call_is_refused_where_it_is_written(checker: str, file: str) -> None:
    errors = {line: message for (where, line), message in CHECKERS[checker]().items() if where == file}
    assert sorted(marked(file) - set(errors)) == [], "accepted, but must be refused"
    assert {line: errors[line] for line in set(errors) - marked(file)} == {}, "refused, but must be accepted"


def test_many_kinds_of_mistakes_are_covered() -> None:
    assert sum(len(marked(file)) for file in files("refused")) >= 25
