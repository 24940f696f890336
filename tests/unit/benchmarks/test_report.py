"""The report of the benchmarks: what it makes of raw numbers, without measuring anything."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import attrs
import pytest

from benchmarks import report
from benchmarks.cases import CASES, percentile
from benchmarks.chart import svg
from benchmarks.goals import GOALS, Goal
from benchmarks.report import markdown, ratios, spread, values_of
from benchmarks.sizes import FULL

LIMITS = {"insert_one": 7000.0, "insert_ms": 1 / 7, "insert_500": 150_000.0, "claim_complete": 60_000.0}
COST = {
    "seconds": 2.0,
    "count": 100_000,
    "worker_cpu": 1.5,
    "postgres_cpu": 1.2,
    "wal": 100_000_000,
    "transactions": 500,
    "connections": 4,
    "memory": 80_000_000,
}


def a_round(factor: float = 1.0, **values: float) -> dict[str, Any]:
    """A round in which everything reaches its floor `factor` times."""
    found = {goal.key: (goal.floor or 1.0) * factor for goal in GOALS if goal.key != "w10"}
    return {"limits": LIMITS, "values": {**found, "w10_rate": 20_000.0 * factor, **values}, "costs": {"W2": COST}}


def goal(key: str) -> Goal:
    return next(each for each in GOALS if each.key == key)


def data(*rounds: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"facts": {"cores": 2}, "sizes": attrs.asdict(FULL), "rounds": list(rounds), **more}


def test_a_number_is_the_median_of_its_rounds_with_its_range() -> None:
    found = spread(values_of([a_round(w2=each) for each in (30_000, 10_000, 20_000)], "w2"))
    assert found == report.Spread(20_000, 10_000, 30_000)
    assert spread([]) is None


def test_a_ratio_is_taken_within_its_round() -> None:
    slow = {**a_round(w2=30_000), "limits": {**LIMITS, "claim_complete": 60_000.0}}
    fast = {**a_round(w2=30_000), "limits": {**LIMITS, "claim_complete": 120_000.0}}
    assert ratios([slow, fast], goal("w2")) == [0.5, 0.25]


def test_where_less_is_better_the_ratio_is_turned_round() -> None:
    assert ratios([a_round(w3s=2 / 7)], goal("w3s")) == [pytest.approx(0.5)]
    assert ratios([a_round()], goal("w6_late")) == []


def test_w10_is_a_part_of_w2_in_the_same_round() -> None:
    rounds = [a_round(w2=40_000, w10_rate=30_000), a_round(w2=20_000, w10_rate=10_000)]
    assert values_of(rounds, "w10") == [0.75, 0.5]


@pytest.mark.parametrize(
    ("key", "value", "verdict"),
    [
        ("w2", 60_000, "aim"),
        ("w2", 30_000, "floor"),
        ("w2", 24_999, "below"),
        ("w3s", 0.3, "aim"),
        ("w3s", 0.4, "floor"),
        ("w3s", 0.6, "below"),
        ("w6_connections", 0, "aim"),
        ("start_import", 80, ""),
    ],
)
def test_a_result_is_judged_by_its_floor_and_aim(key: str, value: float, verdict: str) -> None:
    assert goal(key).verdict(value) == verdict


def test_percentiles_are_values_that_were_seen() -> None:
    values = [float(each) for each in range(100, 0, -1)]
    assert percentile(values, 0.5) == 51
    assert percentile(values, 0.99) == 100
    assert percentile([3.0], 0.99) == 3


def test_every_workload_has_goals_and_a_definition() -> None:
    assert list(dict.fromkeys(each.workload for each in GOALS)) == list(CASES)
    text = markdown(data(a_round()), None)
    for name in CASES:
        assert f"- **{name}**: " in text
    assert "{" not in text


def test_the_report_shows_results_limits_costs_and_the_machine() -> None:
    text = markdown(data(a_round(w2=20_000), a_round(w2=40_000), a_round(w2=30_000)), "performance.svg")
    assert "](performance.svg)" in text
    assert (
        "| W2 | no-op workflows drained | 30,000/s (20,000 to 40,000) | 25,000/s | 50,000/s | over the floor |" in text
    )
    assert "| 60,000 | 0.50 (0.33 to 0.67) |" in text
    assert "| W2 | 100,000 | 2 | 1.50 | 1.20 | 1,000 | 0.005 | 4 | 80 |" in text
    assert "| cores | 2 |" in text


def test_a_missing_workload_leaves_no_row() -> None:
    text = markdown(data({"limits": LIMITS, "values": {"w2": 30_000.0}, "costs": {}}), None)
    assert "| W2 |" in text
    assert "| W3 |" not in text
    assert "What it costs" not in text


def test_a_cliff_is_a_part_of_the_plain_case_of_its_round() -> None:
    plain, burdened = {"w2": 20_000.0, "w3": 50_000.0}, {"w2": 10_000.0, "w3": 45_000.0}
    text = markdown({"cliffs": {"facts": {"cores": 2}, "rounds": [{"plain": plain, "50 queues": burdened}]}}, None)
    assert "| plain | 20,000/s | 1 | 50,000/s | 1 |" in text
    assert "| 50 queues | 10,000/s | 0.50 | 45,000/s | 0.90 |" in text


def test_tables_have_as_many_cells_in_every_row() -> None:
    rows = [{"plain": {"w2": 1.0, "w3": 1.0}}]
    text = markdown(data(a_round(), a_round(2), cliffs={"facts": {"cores": 2}, "rounds": rows}), None)
    for table in text.split("\n\n"):
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert len({line.count("|") for line in lines}) <= 1, table


@pytest.mark.parametrize("factor", [0.001, 1.0, 3.0, 1000.0])
def test_the_chart_is_well_formed_and_stays_inside(factor: float) -> None:
    root = ElementTree.fromstring(svg([a_round(factor), a_round(factor * 1.5)]))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    bars = root.findall("{http://www.w3.org/2000/svg}rect")
    assert len(bars) == sum(goal.floor != 0 and goal.floor is not None for goal in GOALS)
    for bar in bars:
        assert float(bar.attrib["x"]) + float(bar.attrib["width"]) <= width
        assert float(bar.attrib["y"]) + float(bar.attrib["height"]) <= height


def test_the_chart_escapes_what_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.chart.GOALS", (Goal("w2", "W2", "a < b & c", "/s", 1, 2),))
    assert "a &lt; b &amp; c" in svg([a_round()])
