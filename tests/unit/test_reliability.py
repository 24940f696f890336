"""The page of promises is true: every promise is proved by what exists, and every row of the lists has a test."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.checker import INVARIANTS

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| ([PIFB]\d+) \| (.+) \|$", re.MULTILINE)


def rows(page: str, letter: str) -> dict[str, list[str]]:
    """The rows of a page by their ids: the other cells."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return {m[1]: [cell.strip() for cell in m[2].split(" | ")] for m in ROW.finditer(text) if m[1][0] == letter}


PROMISES = rows("docs/reliability.md", "P")
AUDIT = {"I18"}
"""What `audit.py` looks for, as it needs the code."""


@pytest.mark.parametrize("promise", PROMISES)
def test_a_promise_is_proved_by_invariants_and_tests_that_exist(promise: str) -> None:
    sentence, invariants, tests = PROMISES[promise]
    assert sentence.endswith(".")
    assert set(invariants.split())
    assert set(invariants.split()) <= INVARIANTS.keys() | AUDIT
    named = re.findall(r"`([^`]+)`", tests)
    assert named
    for name in named:
        path, _, function = name.partition("::")
        source = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"def {function or 'test_'}", source), name


def test_every_invariant_of_the_page_is_checked_and_the_other_way_round() -> None:
    assert rows("docs/reliability.md", "I").keys() == INVARIANTS.keys() | AUDIT


def marked(name: str) -> dict[str, list[str]]:
    """The rows that a marker names, with the tests that carry it."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for call, test in _marks(ast.parse(path.read_text(encoding="utf-8"))):
            if call.func.attr == name:  # type: ignore[attr-defined]
                for argument in (each for each in call.args if isinstance(each, ast.Constant)):
                    found[ast.literal_eval(argument)].append(f"{path.relative_to(ROOT)}::{test}")
    return found


def _marks(tree: ast.Module) -> Iterator[tuple[ast.Call, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            marks = [each for decorator in node.decorator_list for each in ast.walk(decorator)]
            yield from ((each, node.name) for each in marks if _is_mark(each))
        elif isinstance(node, ast.Assign):
            yield from ((each, "*") for each in ast.walk(node.value) if _is_mark(each))


def _is_mark(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("fault", "bad_input")
    )


def left_out() -> set[str]:
    """Rows that the page says are not tested."""
    section = PAGE.partition("## Not tested here")[2]
    return set(re.findall(r"\b[FB]\d+\b", section))


@pytest.mark.parametrize(
    ("page", "letter", "last", "marker"),
    [("docs/faults.md", "F", 75, "fault"), ("docs/bad-inputs.md", "B", 72, "bad_input")],
)
def test_every_row_of_a_list_has_a_test_or_a_reason(page: str, letter: str, last: int, marker: str) -> None:
    known, tests = rows(page, letter), marked(marker)
    wanted = {f"{letter}{number}" for number in range(1, last + 1)}
    apart = {row for row in left_out() if row[0] == letter}
    assert wanted - apart <= known.keys() <= wanted
    assert tests.keys() <= wanted
    assert sorted(wanted - tests.keys() - apart) == [], "rows without a test"
    assert sorted(tests.keys() & apart) == [], "rows that are said to have none"


def test_few_rows_are_left_out_for_good() -> None:
    assert len({row for row in left_out() if "to come" not in _reason(row)}) <= 8


def _reason(row: str) -> str:
    return next(line for line in PAGE.partition("## Not tested here")[2].splitlines() if re.search(rf"\b{row}\b", line))
