"""What the pytest plugin gives: a database of its own to each test, and nothing left afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest

if TYPE_CHECKING:
    from pathlib import Path

SUITE = """
import json, pathlib
import psycopg
import pytest

@pytest.mark.parametrize("number", range(3))
def test_uses_a_database(flowgen_server_url, flowgen_database, number):
    with psycopg.connect(flowgen_database) as connection:
        pid = connection.execute("select pg_backend_pid()").fetchone()[0]
        connection.execute("create table mine (id int)")
    with psycopg.connect(flowgen_server_url) as connection:
        data = connection.execute("show data_directory").fetchone()[0]
        settings = [connection.execute(f"show {name}").fetchone()[0] for name in ("fsync", "max_connections")]
    with open(pathlib.Path(__file__).parent / "seen", "a") as seen:
        print(json.dumps([data, *settings]), file=seen)
"""

KEPT = """
class kept:
    everything = []
    def __init__(self, url):
        kept.last = psycopg.connect(url)
        kept.everything.append(kept.last)
    def __enter__(self):
        pass
    def __exit__(self, *exception):
        kept.last.commit()

@pytest.fixture(scope="session", autouse=True)
def end():
    yield
    for connection in kept.everything:
        connection.close()
"""


def suite(folder: Path, worker: str) -> subprocess.Popen[str]:
    """A pytest process as pytest-xdist starts them: they share the parent of their base folders."""
    options = ["-p", "no:cacheprovider", "-q", "-W", "error", f"--basetemp={folder / 'base' / worker}"]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "FLOWGEN_"))}
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, str(folder / "test_suite.py")],
        env=env | {"PYTEST_XDIST_WORKER": worker}, cwd=folder, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("number", range(2))
def test_each_test_has_a_fresh_database(flowgen_database: str, number: int) -> None:
    with psycopg.connect(flowgen_database) as connection:
        connection.execute("create table mine (id int)")


def test_a_database_is_dropped_under_the_connections_that_a_test_left_open(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    keeping = SUITE.replace("with psycopg.connect(flowgen_database) as connection:", "with kept(flowgen_database):")
    keeping = keeping.replace("connection.execute", "kept.last.execute", 2)
    (tmp_path / "test_suite.py").write_text(keeping + KEPT)
    said = suite(tmp_path, "gw0").communicate(timeout=100)[0]
    assert "3 passed" in said, said


def test_parallel_processes_share_one_durable_server_and_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "test_suite.py").write_text(SUITE)
    for process in [suite(tmp_path, f"gw{number}") for number in range(3)]:
        said = process.communicate(timeout=100)[0]
        assert process.returncode == 0, said
    seen = [json.loads(line) for line in (tmp_path / "seen").read_text().splitlines()]
    assert len(seen) == 9
    assert {tuple(settings) for _, *settings in seen} == {("on", "300")}
    assert not any(os.path.exists(data) for data, *_ in seen)


def test_the_plugin_imports_no_database_library() -> None:
    code = """
import sys, flowgen
before = set(sys.modules)
import flowgen.testing.plugin
assert not {"psycopg", "flowgen.postgres"} & (set(sys.modules) - before)
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
