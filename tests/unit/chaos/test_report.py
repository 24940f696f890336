"""The report says what was found, and says so when an invariant is broken."""

from __future__ import annotations

from pathlib import Path

from tests.chaos import checker, report
from tests.chaos.evidence import Evidence, Kill, RunChange, Session, Span, Violation, Write
from tests.chaos.harness import Outcome
from tests.chaos.plan import Size, make


def outcome(broken: bool) -> Outcome:
    lines = [
        {"e": "enter", "who": "w1", "t": 1.0, "run": "r", "key": "add", "seg": 0, "attempt": 1},
        {"e": "enter", "who": "w2", "t": 5.0, "run": "r", "key": "add", "seg": 0, "attempt": 1},
    ]
    changes = [
        RunChange(0.9, 1, "w1", "r", None, 3, None, "s1"),
        RunChange(4.0, 2, "w2", "r", 3, 0, "s1", None, recoveries=1),
        RunChange(4.5, 3, "w2", "r", 0, 3, None, "s2", recoveries=1),
    ]
    evidence = Evidence(
        lines=lines,
        kills=[Kill(2.0, "w1")],
        run_changes=changes,
        sessions={"s1": Session("s1", "w1", 0.0, dead=3.9, dead_by="w2"), "s2": Session("s2", "w2", 0.0)},
        writes=[Write(7.5, 9, "w2", ("r",), (1,))],
        spans=[Span("server", 6.0, 7.0)],
        storage={"pg_amcheck": "left out"},
    )
    found: dict[str, list[Violation]] = {name: [] for name in [*checker.INVARIANTS, "I18"]}
    if broken:
        found["I6"] = [Violation("I6", "r", "it took effect twice")]
    return Outcome(
        plan=make(1, Size(runs=3)),
        seconds=90.0,
        evidence=evidence,
        violations=found,
        faults=[{"t": 2.0, "action": "workers", "who": "w1", "unit": "plain-0", "anchor": "progress"}],
        died=[],
        late=[],
        drained=True,
        drain_seconds=1.0,
        server="18",
    )


def test_a_report_counts_what_came_again_and_how_long_it_lay() -> None:
    said = report.summary(outcome(False))
    assert said["verdict"] == "holds"
    assert said["faults"]["worker SIGKILL"] == 1
    assert said["counts"]["extra executions"] == 1
    assert said["takeover"]["plain"]["bins"] == {"<= 2.5 s": 1}
    assert said["server back to first write"]["most"] == 0.5


def test_a_broken_invariant_stands_in_the_page() -> None:
    said = report.summary(outcome(True))
    assert said["verdict"] == "broken"
    page = report.page([report.summary(outcome(False)), said])
    assert "**broken** 1 times" in page
    assert page.count("| holds |") == len(checker.INVARIANTS) + 1
    assert set(report.MEANS) == {*checker.INVARIANTS, "I18"}


def test_the_table_of_seeded_bugs_shows_what_was_not_caught() -> None:
    bug = {"bug": "M1", "what": "no fence", "wanted": ["I11"], "seconds": 9.0, "caught by": []}
    assert "**nothing**" in report.page([report.summary(outcome(False))], [bug])


def test_seeds_and_bugs_are_saved_one_after_the_other(tmp_path: Path) -> None:
    page = tmp_path / "chaos-report.md"
    report.save(page, seeds=[report.summary(outcome(False))])
    report.save(page, bugs=[{"bug": "M1", "what": "no fence", "wanted": ["I11"], "seconds": 9.0, "caught by": ["I11"]}])
    assert "| 1 | " in page.read_text()
    assert "| M1 | no fence | I11 | I11 | 9 |" in page.read_text()
