"""The commands against real servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest


def flowgen(*args: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLOWGEN_")}
    return subprocess.run(
        [sys.executable, "-c", "from flowgen.cli.main import main; main()", *args],
        cwd=cwd,
        env={**kept, **env},
        capture_output=True,
        text=True,
        timeout=100,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A folder with an embedded server of its own, which is gone after the test."""
    (tmp_path / ".flowgen").mkdir()
    yield tmp_path
    flowgen("db", "stop", cwd=tmp_path)
    flowgen("db", "reset", "--yes", cwd=tmp_path)


def test_a_server_is_started_asked_and_stopped_and_its_data_deleted(project: Path) -> None:
    before = flowgen("db", "status", "--json", cwd=project)
    assert before.returncode == 1
    assert json.loads(before.stdout)["running"] is False

    started = flowgen("db", "start", "--json", cwd=project)
    assert started.returncode == 0, started.stderr
    assert json.loads(started.stdout)["running"] is True

    url = flowgen("db", "url", cwd=project).stdout.strip()
    with psycopg.connect(url) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    assert url in flowgen("db", "status", cwd=project).stdout
    assert "ready to accept connections" in flowgen("db", "log", cwd=project).stdout

    refused = flowgen("db", "reset", "--yes", cwd=project)
    assert refused.returncode == 1
    assert "flowgen db stop" in refused.stderr

    assert "stopped" in flowgen("db", "stop", cwd=project).stderr
    again = flowgen("db", "stop", cwd=project)
    assert (again.returncode, again.stderr) == (0, "flowgen: it was not running\n")

    asked = flowgen("db", "reset", cwd=project)
    assert asked.returncode == 1, "nobody said yes"
    assert flowgen("db", "reset", "--yes", cwd=project).returncode == 0
    assert json.loads(flowgen("db", "status", "--json", cwd=project).stdout)["data"] is None


def test_migrate_brings_a_schema_up_once_and_check_tells(flowgen_database: str, tmp_path: Path) -> None:
    missing = flowgen("migrate", "--check", "--json", "--schema", "other", cwd=tmp_path, FLOWGEN_URL=flowgen_database)
    assert missing.returncode == 1
    assert json.loads(missing.stdout)["state"] == "missing"

    made = flowgen("migrate", "--json", cwd=tmp_path, FLOWGEN_URL=flowgen_database, FLOWGEN_SCHEMA="other")
    assert made.returncode == 0, made.stderr
    assert json.loads(made.stdout)["state"] == "current"
    assert "version 0" in made.stderr

    again = flowgen("migrate", "--json", "--schema", "other", "--url", flowgen_database, cwd=tmp_path)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == made.stdout

    current = flowgen("migrate", "--check", "--schema", "other", "--url", flowgen_database, cwd=tmp_path)
    assert current.returncode == 0
    assert "current" in current.stdout


def test_the_printed_sql_makes_the_schema_that_migrate_makes(flowgen_database: str, tmp_path: Path) -> None:
    script = flowgen("migrate", "--sql", "--schema", "by hand", cwd=tmp_path).stdout
    with psycopg.connect(flowgen_database, autocommit=True) as connection:
        connection.execute(script.encode())
    checked = flowgen("migrate", "--check", "--schema", "by hand", "--url", flowgen_database, cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
