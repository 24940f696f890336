"""The demonstration keeps what it promises: three kills, and everything once."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("more", [[], ["--alone"]], ids=["supervised", "alone"])
def test_three_kills_lose_nothing_and_repeat_nothing(more: list[str]) -> None:
    command = [sys.executable, "-W", "error", "-m", "examples.demo", "--seed", "12", "--files", "200", *more]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert said.returncode == 0, said.stdout + said.stderr
    assert said.stderr == ""
    assert said.stdout.count("SIGKILL of process") == 3
    assert len(re.findall(r"^(?:step|transaction|child) .* \d+\.\d{3} s$", said.stdout, re.MULTILINE)) == 3
    assert said.stdout.splitlines()[-1].startswith("OK: ")


def test_a_seed_chooses_the_same_places_again() -> None:
    command = [sys.executable, "-c", "from examples.demo.__main__ import choose; print(choose(12, 8), choose(13, 8))"]
    said = [subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30) for _ in range(2)]
    assert said[0].stdout == said[1].stdout != ""
    first, _, second = said[0].stdout.partition("] [")
    assert first.strip("[") != second.strip("]\n")
