"""The chaos harness catches every seeded bug, and names the invariant."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.bugs import BUGS, catch


@pytest.mark.nightly
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", BUGS)
def test_a_seeded_bug_is_caught(name: str, tmp_path: Path) -> None:
    row = catch(name, tmp_path, print)
    assert row["right"], row
