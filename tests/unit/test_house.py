"""The rules of the house, proved of the source itself. CONTRIBUTING.md says why they are there."""

from __future__ import annotations

import ast
import enum
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import flowgen

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "flowgen"
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py"))
SQL_FILES = sorted(path.relative_to(ROOT).as_posix() for path in (PACKAGE / "postgres/sql").rglob("*.sql"))

MAX_FILE = 420
MAX_FUNCTION = 60
CLOCKS = {"flowgen/worker/clock.py", "flowgen/client/clock.py"}
IMPURE = {
    "_thread", "asyncio", "atexit", "concurrent", "fcntl", "glob", "http", "io", "logging", "multiprocessing",
    "os", "psycopg", "psycopg_pool", "queue", "random", "sched", "secrets", "select", "selectors", "shutil", "signal",
    "socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "time", "urllib",
}  # fmt: skip
VAGUE = {"base", "common", "helper", "helpers", "manager", "managers", "misc", "shared", "util", "utils"}
SQL = re.compile(
    r"\s*(select\s.+\sfrom\s|insert\s+into\s|update\s+\S+\s+set\s|delete\s+from\s|with\s+\w+\s+as\s.*\(|truncate\s"
    r"|(create|drop|alter)\s+(or\s+replace\s+)?(table|schema|database|index|function|role|type|view|sequence)\s"
    r"|select\s+\w+\s*\()",
    re.IGNORECASE | re.DOTALL,
)
# What is known to stand where the rule would not have it, with the reason.
FIXTURES = "flowgen/testing/plugin.py"  # makes and drops whole databases, before there is a schema to speak to
TRACE_FILES = "flowgen/core/trace.py"  # Trace.save and Trace.load, which a user calls and nothing in the core


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text(encoding="utf-8"), module)


def imported(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """The modules that are imported when the code runs, with their lines; not those for type checkers only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for other in node.orelse:
                yield from imported(other)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or "", node.lineno
        else:
            yield from imported(node)


def strings(tree: ast.Module) -> Iterator[ast.Constant]:
    """String constants that are no docstrings."""
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node


def under(*folders: str) -> list[str]:
    return [module for module in MODULES if module.startswith(folders)]


def test_imports_go_down_only() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    said = subprocess.run([*command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_what_it_is(module: str) -> None:
    assert ast.get_docstring(tree_of(module)), f"{module} has no docstring"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_can_be_read_in_one_sitting(module: str) -> None:
    lines = len((ROOT / module).read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_FILE, f"{module} has {lines} lines, {MAX_FILE} are allowed: which two nouns are in it?"


@pytest.mark.parametrize("module", MODULES)
def test_a_function_fits_a_screen(module: str) -> None:
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            length = node.end_lineno - node.lineno + 1
            assert length <= MAX_FUNCTION, f"{module}:{node.lineno} {node.name} has {length} lines"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_named_by_a_noun(module: str) -> None:
    assert not VAGUE & set(Path(module).with_suffix("").parts), f"{module}: what does it hold?"


@pytest.mark.parametrize("module", [each for each in MODULES if each not in under("flowgen/postgres/", FIXTURES)])
def test_sql_and_psycopg_stay_in_their_room(module: str) -> None:
    found = [
        f"{module}:{node.lineno} {node.value[:60]!r}" for node in strings(tree_of(module)) if SQL.match(node.value)
    ]
    found += [
        f"{module}:{line} imports {name}"
        for name, line in imported(tree_of(module))
        if name.split(".")[0] in ("psycopg", "psycopg_pool")
    ]
    assert not found


@pytest.mark.parametrize("module", [each for each in MODULES if each not in CLOCKS])
def test_one_file_of_a_room_reads_the_clock(module: str) -> None:
    clocks = {
        *(f"datetime.{name}" for name in ("now", "utcnow", "today")),
        *(f"datetime.datetime.{name}" for name in ("now", "utcnow", "today")),
        *(f"date{dot}.today" for dot in ("", "time.date")),
        *(f"time.{name}{ns}" for name in ("time", "monotonic", "perf_counter", "process_time") for ns in ("", "_ns")),
    }
    found = [
        f"{module}:{node.lineno} {ast.unparse(node)}"
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in clocks
    ]
    found += [
        f"{module}:{node.lineno} from time import {alias.name}"
        for node in ast.walk(tree_of(module))
        if isinstance(node, ast.ImportFrom) and node.module == "time"
        for alias in node.names
        if f"time.{alias.name}" in clocks
    ]
    assert not found


@pytest.mark.bad_input("B23")
@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_ever_unpickled(module: str) -> None:
    pickles = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve"}
    assert not [name for name, _ in imported(tree_of(module)) if name.split(".")[0] in pickles]


@pytest.mark.parametrize("module", under("flowgen/core/", "flowgen/errors.py"))
def test_the_core_reaches_nothing_outside(module: str) -> None:
    tree = tree_of(module)
    found = [f"{module}:{line} imports {name}" for name, line in imported(tree) if name.split(".")[0] in IMPURE]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            in_trace = module == TRACE_FILES and called in ("read_text", "write_text")
            if called in {"open", "print", "input", "read_text", "write_text", "uuid1", "uuid4"} and not in_trace:
                found.append(f"{module}:{node.lineno} calls {called}")
    assert not found


@pytest.mark.parametrize("path", SQL_FILES)
def test_a_statement_says_its_purpose(path: str) -> None:
    first = (ROOT / path).read_text(encoding="utf-8").splitlines()[0]
    assert re.match(r"--\s*\w.{7,}", first), f"{path} begins with {first!r}: begin with `-- what it is for`"


@pytest.mark.parametrize("name", flowgen.__all__)
def test_a_public_name_is_documented(name: str) -> None:
    value = getattr(flowgen, name)
    if inspect.isclass(value) and issubclass(value, enum.Enum):
        assert value.__doc__
        assert value.__doc__ != enum.Enum.__doc__
    elif inspect.isclass(value):
        # attrs writes nothing, dataclasses write a signature, and a parent's docstring is about the parent.
        assert "__doc__" in vars(value), f"flowgen.{name} has no docstring"
        assert value.__doc__, f"flowgen.{name} has no docstring"
    elif inspect.isroutine(value):
        assert inspect.getdoc(value), f"flowgen.{name} has no docstring"


def test_the_public_names_are_sorted_and_once() -> None:
    assert list(flowgen.__all__) == sorted(set(flowgen.__all__))
