"""Finds commands that a handler makes and never yields: `Sleep(2)` on a line of its own does nothing.

Never runs the handler, never reads a file (the caller gives the lines) and never raises: where the source is not what
was compiled, nothing is found. Looks at statements only; what is bound to a name may still be yielded.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Sequence
from types import CodeType
from typing import Any

import attrs

from flowgen.core.commands import Command
from flowgen.core.definitions import Definition
from flowgen.core.functions import Flavour

__all__ = ["Forgotten", "ForgottenYieldWarning", "find_forgotten"]

_WIDTH = 80


class ForgottenYieldWarning(UserWarning):
    """A handler makes a command that it never yields."""


@attrs.frozen
class Forgotten:
    """One command that is made for nothing: how it is written, in which file and line, and what it should be."""

    written: str
    file: str
    line: int
    spelling: str

    def __str__(self) -> str:
        shown = self.written if len(self.written) <= _WIDTH else self.written[: _WIDTH - 3] + "..."
        return (
            f"{self.file}:{self.line}: {shown} is made and never yielded, so nothing happens: "
            f"write `{self.spelling} {shown}`"
        )


def find_forgotten(fn: Callable[..., Any], lines: Sequence[str]) -> list[Forgotten]:
    """The forgotten commands of the generator function or coroutine function `fn`; `lines` are those of its file."""
    try:
        plain = inspect.unwrap(fn)
        code: CodeType = plain.__code__
        if not _names_a_command(plain, code):
            return []
        block = inspect.getblock(list(lines[code.co_firstlineno - 1 :]))
        tree = ast.parse(textwrap.dedent("".join(block))).body[0]
    except Exception:
        return []
    if not isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef) or tree.name != code.co_name:
        return []
    spelling = "await" if isinstance(tree, ast.AsyncFunctionDef) else "yield from"
    return [
        Forgotten(ast.unparse(statement.value), code.co_filename, code.co_firstlineno + statement.lineno - 1, spelling)
        for statement in _statements(tree)
        if isinstance(statement, ast.Expr) and _makes_command(statement.value, plain)
    ]


def _names_a_command(fn: Any, code: CodeType) -> bool:
    return any(
        _is_maker(found) or inspect.ismodule(found)
        for found in (_look_up(fn, name) for name in (*code.co_names, *code.co_freevars))
    )


def _statements(function: ast.AST) -> Iterator[ast.AST]:
    """Everything inside but the bodies of functions and classes of its own."""
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            yield child
            yield from _statements(child)


def _makes_command(made: ast.expr, fn: Any) -> bool:
    if not isinstance(made, ast.Call):
        return False
    if isinstance(made.func, ast.Attribute) and made.func.attr == "opts":
        return _makes_command(made.func.value, fn)
    return _is_maker(_value(made.func, fn))


def _value(node: ast.expr, fn: Any) -> object:
    if isinstance(node, ast.Name):
        return _look_up(fn, node.id)
    if isinstance(node, ast.Attribute):
        owner = _value(node.value, fn)
        return vars(owner).get(node.attr) if inspect.ismodule(owner) else None
    return None


def _look_up(fn: Any, name: str) -> object:
    code: CodeType = fn.__code__
    if name in code.co_varnames:
        return None
    if name in code.co_freevars:
        try:
            return fn.__closure__[code.co_freevars.index(name)].cell_contents
        except ValueError:  # not assigned yet
            return None
    return fn.__globals__.get(name)


def _is_maker(found: object) -> bool:
    if isinstance(found, Definition):
        return found.is_handler and found.function.flavour is Flavour.GENERATOR
    return isinstance(found, type) and issubclass(found, Command)
