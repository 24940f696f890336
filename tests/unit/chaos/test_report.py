"""The report says what was found, and says so when an invariant is broken."""

from __future__ import annotations

from tests.chaos import checker, report
from tests.chaos.checker import Violation
from tests.chaos.evidence import Evidence, Kill
from tests.chaos.harness import Outcome
from tests.chaos.plan import make


def outcome(broken: bool) -> Outcome:
    lines = [
        {"e": "enter", "who": "w1", "t": 1.0, "run": "r", "key": "add", "seg": 0, "attempt": 1},
        {"e": "enter", "who": "w2", "t": 5.0, "run": "r", "key": "add", "seg": 0, "attempt": 1},
    ]
    evidence = Evidence(lines=lines, kills=[Kill(2.0, "w1")])
    found: dict[str, list[Violation]] = {name: [] for name in [*checker.INVARIANTS, "I18"]}
    if broken:
        found["I6"] = [Violation("I6", "r", "it took effect twice")]
    return Outcome(
        plan=make(1, worker_kills=1, postgres_kills=1, runs=1, lease=15, gap=1),
        seconds=90.0,
        evidence=evidence,
        violations=found,
        faults=[{"t": 2.0, "action": "worker", "who": "w1", "unit": "plain-0", "anchor": "progress"}],
        died=[],
        late=[],
        drained=True,
        drain_seconds=1.0,
    )


def test_a_report_counts_what_was_open_and_how_long_it_lay() -> None:
    said = report.summary(outcome(False), "18")
    assert said["verdict"] == "holds"
    assert said["kills"]["hit an open call"] == 1
    assert said["counts"]["calls that came again"] == 1
    assert said["takeover"]["plain"]["bins"] == {"<= 5 s": 1}


def test_a_broken_invariant_stands_in_the_page() -> None:
    said = report.summary(outcome(True), "18")
    assert said["verdict"] == "broken"
    page = report.page(said)
    assert "**broken** 1 times" in page
    assert page.count("| holds |") == len(checker.INVARIANTS)
