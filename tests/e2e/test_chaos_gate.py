"""The small run of the chaos harness: every kind of fault at once over 500 runs, and every invariant holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.harness import Harness
from tests.chaos.plan import GATE, make


@pytest.mark.fault("F29", "F30")
@pytest.mark.needs_session("it has a server of its own, and times what notifications make quick")
@pytest.mark.timeout(300)
def test_faults_of_every_kind_at_once_break_no_invariant(tmp_path: Path) -> None:
    plan = make(1, GATE)
    outcome = Harness(tmp_path / "chaos", plan, minutes=3).run()
    assert {name: found for name, found in outcome.violations.items() if found} == {}
    assert outcome.drained, outcome.stuck
    assert (outcome.died, outcome.late) == ([], []), "\n".join(dead["log"] for dead in outcome.died)
    done = [fault["action"] for fault in outcome.faults]
    assert {action: done.count(action) for action in set(done)} == {
        "workers": 20, "stop": 5, "postgres": 2, "terminate": 4, "backend": 1, "ack": 2, "reset": 1, "blackhole": 1,
        "supervisor": 1,
    }  # fmt: skip
