"""The pages for who comes from another system are whole and true: every name of theirs, names that exist, tests too."""

from __future__ import annotations

import ast
import builtins
import inspect
import re
from itertools import pairwise
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
NAMES = {path.stem: path for path in sorted((Path(__file__).parent / "coming_from").glob("*.names"))}
"""The public names of each package. The first line says which release, and where it is told of; `# ` which file."""
NOT_YET = {
    "azure-durable-functions": 2,
    "dbos": 14,
    "durable-rust": 0,
    "postgres-conductor": 0,
    "tasker": 0,
    "temporal": 8,
}
"""Rows whose second column is "not yet": lower the number when one of them is built."""
NONE = {
    "azure-durable-functions": 9,
    "dbos": 25,
    "durable-rust": 0,
    "postgres-conductor": 0,
    "tasker": 0,
    "temporal": 48,
}
"""Rows whose second column is "none", with the reason."""

CELLS = re.compile(r"(?<!\\)\|")
SPAN = re.compile(r"@?([A-Za-z_][\w.]*)(?:\[([\w., ]+)\])?(?:\((\w+=(?:, \w+=)*)\))?")
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
    """The cells of the page's tables, without their heads."""
    lines = [*PAGES[page].read_text(encoding="utf-8").splitlines(), ""]
    found = [line for line, below in pairwise(lines) if line.startswith("| ") and not below.startswith("|---")]
    return [tuple(cell.strip() for cell in CELLS.split(line.strip("|"))) for line in found]


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


def named(span: str) -> list[str]:
    """The names that a span of the first column, or a line of a list, stands for.

    `f[_async, .wait]` is f, f_async and f.wait; `f(x=, y=)` is two options of f, and not f.
    """
    found = SPAN.fullmatch(span)
    assert found, f"no name: {span}"
    head, ends, options = found.groups()
    if options:
        assert not ends, f"options of one name at a time: {span}"
        return [f"{head}({option})" for option in options.split(", ")]
    return [head, *(head + end for end in (ends.split(", ") if ends else ()))]


@pytest.mark.parametrize("system", sorted(NAMES))
def test_every_name_of_the_package_has_one_row_and_no_row_has_another_name(system: str) -> None:
    release, *lines = NAMES[system].read_text(encoding="utf-8").splitlines()
    theirs = [name for line in lines if line and not line.startswith("# ") for name in named(line)]
    shown = [name for row in rows(system) for span in re.findall(r"`([^`]+)`", row[0]) for name in named(span)]
    assert sorted(set(theirs) - set(shown)) == [], "no row"
    assert sorted(set(shown) - set(theirs)) == [], "not a name of theirs"
    assert sorted(name for name in set(shown) if shown.count(name) > 1) == [], "two rows"
    assert len(set(theirs)) == len(theirs) > 100
    package, version, reference = release.removeprefix("# ").split(" ")
    page = PAGES[system].read_text(encoding="utf-8")
    assert f"`{package}` {version}" in page
    assert reference in page


def test_what_a_span_names() -> None:
    assert named("@workflow.defn") == ["workflow.defn"]
    assert named("f[_async, .wait]") == ["f", "f_async", "f.wait"]
    assert named("Retry(initial=, most=)") == ["Retry(initial=)", "Retry(most=)"]
    for span in ("f(x)", "f(x=1)", "f(x=, y)", "f g", "f[_a](x=)", ""):
        with pytest.raises(AssertionError):
            named(span)


@pytest.mark.parametrize("row", rows_of_every_page())
def test_a_row_names_what_exists_and_the_test_that_proves_it(row: tuple[str, ...]) -> None:
    theirs, ours, *proof = row
    assert theirs
    if ours.startswith(("not yet", "none")):
        assert re.match(r"(not yet|none): \S.{10}", ours), "why not?"
        names_in(ours)
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


def test_what_is_not_there_is_counted() -> None:
    assert {page: sum(row[1].startswith("not yet") for row in rows(page)) for page in PAGES} == NOT_YET
    assert {page: sum(row[1].startswith("none") for row in rows(page)) for page in PAGES} == NONE


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
