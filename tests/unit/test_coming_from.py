"""The pages for who comes from another system are whole and true: every name of theirs, names that exist, tests too."""

from __future__ import annotations

import ast
import builtins
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import flowgen
import flowgen.flows
import flowgen.testing
from flowgen.client.steps import Steps
from flowgen.core.context import Logger
from flowgen.core.ports import Signal
from tests.named import defined_in

ROOT = Path(__file__).resolve().parents[2]
PAGES = {path.stem: path for path in sorted((ROOT / "docs/coming-from").glob("*.md"))}
LISTS = {path.stem: path for path in sorted((Path(__file__).parent / "coming_from").glob("*.txt"))}
"""What each system says of itself: every method, accessor, parameter and sentence about what it does, and the names."""
NOT_YET = {
    "azure-durable-functions": 2,
    "dbos": 6,
    "durable-rust": 0,
    "postgres-conductor": 0,
    "tasker": 0,
    "temporal": 2,
}
"""Rows whose second column is "not yet": lower the number when one of them is built."""

CELLS = re.compile(r"(?<!\\)\|")
OBJECTS: dict[str, Any] = {
    "flowgen": flowgen,
    "ctx": flowgen.StepContext,
    "ctx.logger": Logger,
    "ctx.signal": Signal,
    "ctx.trigger": flowgen.Trigger,
    "client": flowgen.Client,
    "client.steps": Steps,
    "run": flowgen.Run,
    "App": flowgen.App,
}
MODULES = ("flowgen", "flowgen.testing", "flowgen.flows")


def rows(page: str) -> list[tuple[str, ...]]:
    """The cells of the page's table, without its head."""
    lines = [line for line in PAGES[page].read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return [tuple(cell.strip() for cell in CELLS.split(line.strip("|"))) for line in lines[1:]]


def rows_of_every_page() -> list[Any]:
    return [pytest.param(row, id=f"{page}-{at}") for page in PAGES for at, row in enumerate(rows(page), 1)]


class Names(ast.NodeVisitor):
    """What of ours stands in a piece of code; raises AssertionError for a name that does not exist."""

    def __init__(self) -> None:
        self.found = 0

    def visit_Name(self, node: ast.Name) -> None:
        self._resolved(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._resolved(node)
        if not isinstance(node.value, ast.Name | ast.Attribute):
            self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        called = self._resolved(node.func)
        given = [keyword.arg for keyword in node.keywords if keyword.arg is not None]
        if called is None or not given:
            return
        parameters = inspect.signature(called).parameters
        if any(each.kind is each.VAR_KEYWORD for each in parameters.values()) and called is not flowgen.Sleep:
            return
        missing = [name for name in given if name not in parameters]
        assert not missing, f"{ast.unparse(node.func)} takes no {missing}"

    def _resolved(self, node: ast.AST) -> Any:
        """The object that a name of ours stands for; None for a name of the reader's own."""
        if isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Call) and node.attr == "opts":
                owner = self._resolved(node.value.func)
                owner = flowgen.Call if getattr(node.value.func, "attr", None) == "call" else owner
            else:
                owner = OBJECTS.get(ast.unparse(node.value)) or self._resolved(node.value)
            if owner is None or isinstance(owner, property) or inspect.isdatadescriptor(owner):
                return None
            assert hasattr(owner, node.attr), f"there is no {ast.unparse(node)}"
            self.found += 1
            return OBJECTS.get(ast.unparse(node)) or getattr(owner, node.attr)
        if not isinstance(node, ast.Name):
            return None
        if node.id in OBJECTS:
            return OBJECTS[node.id]
        if node.id in ("task", "workflow") or node.id[0].isupper():
            return self._public(node.id)
        return None

    def _public(self, name: str) -> Any:
        for module in MODULES:
            try:
                found = getattr(__import__(module, fromlist=["_"]), name)
            except (ImportError, AttributeError):
                continue
            self.found += 1
            return found
        assert hasattr(builtins, name) or name in READERS_OWN, f"flowgen has no {name}"
        return None


READERS_OWN = {"Services", "Model", "Order"}
"""Classes of the reader's that the pages speak of."""


def names_in(cell: str) -> int:
    """How many names of ours stand in a cell. Raises AssertionError for one that does not exist."""
    found = 0
    for span in re.findall(r"`([^`]+)`", cell):
        code = re.sub(r"(\w+=)(?=[,)])", r"\1...", span.removeprefix("@"))
        if code.startswith("."):
            continue
        if code.startswith(("for ", "with ")):
            code += ": pass"
        try:
            tree = ast.parse(code)
        except SyntaxError:
            assert code.split(" ")[0] in ("async", "flowgen", "SELECT"), f"not understood: {span}"
            continue
        names = Names()
        names.visit(tree)
        found += names.found
    return found


@pytest.mark.parametrize("system", sorted(LISTS))
def test_every_name_and_every_sentence_of_the_system_has_its_row(system: str) -> None:
    lines = LISTS[system].read_text(encoding="utf-8").splitlines()
    theirs = [line for line in lines if not line.startswith(("# ", "= "))]
    shown = [row[0] for row in rows(system)]
    assert [each for each in theirs if each not in shown] == []
    assert [each for each in shown if each not in theirs] == []
    assert len(set(shown)) == len(shown)
    names = {name for line in lines if line.startswith("= ") for name in line.removeprefix("= ").split()}
    assert len(names) > 20
    assert names - set(re.findall(r"\w+", " ".join(shown))) == set()


@pytest.mark.parametrize("row", rows_of_every_page())
def test_a_row_names_what_exists_and_the_test_that_proves_it(row: tuple[str, ...]) -> None:
    theirs, ours, *proof = row
    assert theirs
    if ours.startswith("not yet"):
        assert proof in ([], [""])
        return
    assert names_in(ours), "no name of ours"
    for name in ", ".join(proof).split(", ") if proof else []:
        path, _, test = name.partition("::")
        assert test in defined_in(path), f"there is no {name}"
        assert test.rpartition("::")[2].startswith("test_")


def test_a_system_with_a_list_has_a_test_in_every_row() -> None:
    for system in PAGES:
        assert {len(row) for row in rows(system)} == ({3} if system in LISTS else {2}), system


def test_what_is_not_there_yet_is_counted() -> None:
    assert {page: sum(row[1].startswith("not yet") for row in rows(page)) for page in PAGES} == NOT_YET


@pytest.mark.parametrize(
    "cell",
    [
        "`Steps(fn)`",
        "`flowgen.walk()`",
        "`ctx.get_inputs(\"a\")`",
        "`client.stop(id)`",
        "`client.steps.undo(id)`",
        "`run.answer`",
        "`@task(retries=3)`",
        "`Step(fn).opts(retries=3)`",
        "`start(fn.call(1).opts(run_id=\"a\"))`",
        "`Invoke(child).opts(timeouts=3)`",
        "`ctx.logger.fatal`",
    ],
)  # fmt: skip
def test_a_name_that_does_not_exist_is_found(cell: str) -> None:
    with pytest.raises(AssertionError):
        assert names_in(cell)


def test_a_name_that_exists_is_found() -> None:
    for cell in (
        "`x = yield from Step(fn, 1).opts(name=\"a\")`",
        "`ctx.logger.info(\"a\", b=1)`",
        "`client.steps.skip(run_id, key, value)`",
        "`flowgen.call(\"report\").opts(queue=\"mail\")`",
        "`Sleep(hours=, minutes=)`",
        "`@workflow(deadline=)`",
    ):  # fmt: skip
        assert names_in(cell), cell
