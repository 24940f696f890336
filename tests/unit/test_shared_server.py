"""Tests share a server: one that looks at what belongs to all of its databases, or ends sessions, keeps to its own."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OWN_SERVERS = ("tests.faults.servers", "tests.environments.replicas", "tests.chaos")
"""Modules that import one of them have a server to themselves."""
WIDE = re.compile(
    r"\b(from|join) pg_(stat_activity|locks|prepared_xacts|replication_slots|stat_replication)\b"
    r"|\bpg_((terminate|cancel)_backend|reload_conf)\(|\balter system\b",
    re.IGNORECASE,
)
OWN = re.compile(r"current_database\(\)|\bpid = |\bslot_name = |_backend\(%s\)|pg_backend_pid\(\)$", re.IGNORECASE)
TEXTS = ast.Constant | ast.JoinedStr | ast.FormattedValue | ast.BinOp


def reads_a_server_of_its_own(tree: ast.Module) -> bool:
    names = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return any(name.startswith(OWN_SERVERS) for name in names)


def statements(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The texts of a module with their lines, with what the names in them stand for."""
    stands_for: dict[str, list[ast.expr]] = defaultdict(list)
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AugAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    stands_for[target.id].append(node.value)

    def written_out(node: ast.AST, seen: frozenset[str] = frozenset()) -> str:
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else ""
        if isinstance(node, ast.Name) and node.id not in seen:
            return "".join(written_out(value, seen | {node.id}) for value in stands_for[node.id])
        if isinstance(node, TEXTS):
            return "".join(written_out(child, seen) for child in ast.iter_child_nodes(node))
        return ""

    def outermost(node: ast.AST) -> Iterator[tuple[int, str]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, TEXTS):
                yield child.lineno, written_out(child)
            else:
                yield from outermost(child)

    yield from outermost(tree)


def not_limited(tree: ast.Module) -> list[tuple[int, str]]:
    if reads_a_server_of_its_own(tree):
        return []
    return [(line, text) for line, text in statements(tree) if WIDE.search(text) and not OWN.search(text)]


def test_a_test_keeps_to_its_own_database_of_the_shared_server() -> None:
    """It says `datname = current_database()` or a pid, or takes an `OwnServer` of tests/faults/servers.py."""
    own = ["tests/chaos", "tests/faults/servers.py", "tests/environments/replicas.py"]
    found = [
        f"{path.relative_to(ROOT)}:{line} {text[:80]}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if path != Path(__file__) and not any(path.is_relative_to(ROOT / each) for each in own)
        for line, text in not_limited(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found


def test_the_engine_ends_nobodys_session() -> None:
    """It names a session in one warning, for the operator to end; the fixtures drop the databases that they made."""
    found = {
        path.relative_to(ROOT).as_posix()
        for path in [*(ROOT / "flowgen").rglob("*.py"), *(ROOT / "flowgen").rglob("*.sql")]
        if re.search(r"pg_(terminate|cancel)_backend|with \(force\)", path.read_text(encoding="utf-8"), re.IGNORECASE)
    }
    assert found == {"flowgen/worker/lookout.py", "flowgen/testing/plugin.py"}


@pytest.mark.parametrize(
    ("text", "limited"),
    [
        ('db.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity")', False),
        ('db.execute("SELECT pg_terminate_backend(%s)", (pid,))', True),
        ("ALL = 'application_name = 1'\nsql = f'SELECT 1 FROM pg_locks WHERE {ALL}'", False),
        ("MINE = 'datname = current_database()'\nsql = f'SELECT 1 FROM pg_stat_activity WHERE {MINE}'", True),
        ("from tests.faults.servers import own_server\nsql = 'SELECT 1 FROM pg_stat_activity'", True),
    ],
)
def test_what_is_looked_for_is_found(text: str, limited: bool) -> None:
    assert (not not_limited(ast.parse(text))) is limited
