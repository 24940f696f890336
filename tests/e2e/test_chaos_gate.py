"""A small run of the chaos harness: ten workers and a server are killed, and every invariant holds."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.harness import Harness
from tests.chaos.plan import make


def test_ten_killed_workers_and_a_killed_server_break_no_invariant(tmp_path: Path) -> None:
    plan = make(1, worker_kills=10, postgres_kills=1, runs=40, lease=2.0, gap=2.0)
    outcome = Harness(tmp_path / "chaos", plan, plain=2, minutes=1.5).run()
    assert {name: found for name, found in outcome.violations.items() if found} == {}
    assert outcome.drained, outcome.stuck
    assert (outcome.died, outcome.late) == ([], []), "\n".join(dead["log"] for dead in outcome.died)
    assert sum(fault["action"] == "worker" for fault in outcome.faults) == 10
    assert sum(fault["action"] == "postgres" for fault in outcome.faults) == 1
