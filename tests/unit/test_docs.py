"""The code in the documentation is code: it parses, imports what exists and defines what it shows."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

import flowgen
from flowgen import App
from flowgen.core.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


@attrs.frozen
class Block:
    """A block of code of a page."""

    page: str
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start()) + 2
            block = Block(page.relative_to(ROOT).as_posix(), line, match[2], textwrap.dedent(match[3]))
            if match[2] in languages:
                found.append(block)
    return found


PYTHON = blocks("python")


@pytest.fixture
def isolated(monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    """Definitions of a page, and of the examples that it imports, go into an App of their own."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    for example in (ROOT / "examples").glob("*.py"):
        monkeypatch.delitem(sys.modules, example.stem, raising=False)
    app = App(name="page")
    monkeypatch.setattr(flowgen, "task", app.task)
    monkeypatch.setattr(flowgen, "workflow", app.workflow)
    yield app
    for example in (ROOT / "examples").glob("*.py"):
        sys.modules.pop(example.stem, None)


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_python_in_the_pages_parses_and_imports_what_exists(block: Block) -> None:
    tree = ast.parse(block.code, str(block))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "flowgen":
            module = __import__(node.module or "", fromlist=["_"])
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert not missing, f"{block}: {node.module} has no {missing}"
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "flowgen":
            assert hasattr(flowgen, node.attr), f"{block}: flowgen has no {node.attr}"


@pytest.mark.parametrize("block", [each for each in PYTHON if "def " in each.code], ids=str)
def test_definitions_in_the_pages_can_be_defined_and_tests_pass(block: Block, isolated: App) -> None:
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(block.code, str(block), "exec", dont_inherit=True), names)
    decorated = block.code.count("\n@task") + block.code.count("\n@workflow")
    assert sum(each.fn.__module__ == "page" for each in isolated.definitions.values()) == decorated
    for name, value in names.items():
        if name.startswith("test_") and not inspect.signature(value).parameters:
            value()


def test_the_first_program_of_the_readme_is_the_example() -> None:
    shown = next(each.code for each in PYTHON if each.page == "README.md" and each.code.startswith("# shop.py"))
    example = (ROOT / "examples/shop.py").read_text(encoding="utf-8")
    assert ast.dump(ast.parse(shown)) == ast.dump(ast.parse(example))


def test_every_setting_is_documented_with_its_default() -> None:
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `FLOWGEN_(\w+)` \| `?([^|`]+?)`? \|", text, re.MULTILINE))
    names = {each.name.upper() for each in attrs.fields(Settings)} - {"CODEC"}  # of code alone
    assert set(rows) == names
    given = {name: value for name, value in rows.items() if not value.startswith("a third")}
    assert Settings.from_env({f"FLOWGEN_{name}": value for name, value in given.items()}) == Settings()


def test_every_command_of_the_readme_exists_and_every_command_is_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = {name for cell in table for name in re.findall(r"`(\w+)`", cell)}
    commands = {
        name
        for name in flowgen.__all__
        if isinstance(value := getattr(flowgen, name), type)
        and issubclass(value, flowgen.Command)
        and value is not flowgen.Command
    }
    assert named == commands


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = sorted(int(path.name[:4]) for path in (ROOT / "docs/decisions").glob("[0-9]*.md"))
    assert numbers == list(range(1, len(numbers) + 1))
