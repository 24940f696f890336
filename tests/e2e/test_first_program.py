"""The first program of the README, as it is written there, in two processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flowgen.client.sync import Client
from tests.waiting import eventually

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shop, buy = re.findall(r"```python\n(# (?:shop|buy)\.py.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "shop.py").write_text(shop)
    (tmp_path / "buy.py").write_text(buy)
    return tmp_path


def python(folder: Path, url: str, file: str) -> subprocess.Popen[str]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("FLOWGEN_", "PYTEST_"))}
    if os.environ.get("FLOWGEN_TEST_POOLER"):
        environ["FLOWGEN_POOLER"] = "1"
    return subprocess.Popen(
        [sys.executable, "-W", "error", file],
        cwd=folder,
        env=environ | {"FLOWGEN_URL": url, "PYTHONPATH": os.getcwd()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_the_first_program_runs_as_it_is_written(folder: Path, flowgen_database: str, flowgen_client: Client) -> None:
    worker = python(folder, flowgen_database, "shop.py")
    try:
        for _ in range(2):
            said, errors = python(folder, flowgen_database, "buy.py").communicate(timeout=60)
            assert said == "ch_o-1_500\n", errors
            assert errors == ""
        run = flowgen_client.get("order-o-1")
        assert run.status == "completed"
        assert [item.name for item in flowgen_client.history(run.id) if item.kind == "outcome"] == ["charge", "sleep"]
        worker.terminate()
        said, errors = worker.communicate(timeout=20)
        assert worker.returncode == 0
        assert (said, errors) == ("", "")
    finally:
        worker.kill()
        worker.communicate()


def test_a_missing_worker_is_never_silent(folder: Path, flowgen_database: str, flowgen_client: Client) -> None:
    buyer = python(folder, flowgen_database, "buy.py")
    try:
        assert buyer.stderr is not None
        line = buyer.stderr.readline()
        assert "checkout" in line
        assert "worker" in line
        eventually(lambda: flowgen_client.get("order-o-1").status == "pending")
    finally:
        buyer.kill()
        buyer.communicate()
