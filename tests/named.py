"""The tests of a file by their names, for tables that say which test proves what."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@cache
def defined_in(path: str) -> dict[str, str]:
    """The tests of a file that `make test` runs, with their decorators; those of a class have its name before them."""
    file = ROOT / path
    assert file.is_file(), f"there is no {path}"
    found: dict[str, str] = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        inner = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        for each in inner:
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                decorators = [ast.unparse(decorator) for decorator in each.decorator_list]
                if "pytest.mark.nightly" not in decorators:
                    found[prefix + each.name] = "\n".join(decorators)
    return found
