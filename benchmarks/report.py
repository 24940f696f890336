"""The report: Markdown from the raw numbers, and from nothing else.

    data = {"facts": {...}, "sizes": {...}, "rounds": [{"limits": {...}, "values": {...}, "costs": {...}}, ...],
            "cliffs": {"facts": {...}, "rounds": [{case: {"w2": rate, "w3": rate}, ...}, ...]}}

A number is the median of its rounds with its lowest and highest; a ratio is taken within each round first, so that a
machine that drifts between two rounds does not change it.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import attrs

from benchmarks.goals import GOALS, Goal, definition_of

__all__ = ["Spread", "markdown", "ratios", "spread", "values_of"]

Data: TypeAlias = Mapping[str, Any]
PLAIN = "plain"

_LIMITS = {
    "insert_one": "one row an INSERT, one client, rows/s",
    "insert_ms": "the same, ms per INSERT",
    "insert_500": "500 rows an INSERT, one client, rows/s",
    "claim_complete": "claim and complete of 500, a client per core, rows/s",
}
_VERDICTS = {"aim": "reaches the aim", "floor": "over the floor", "below": "**below the floor**", "": ""}


@attrs.frozen
class Spread:
    """The median of some numbers, the least and the greatest."""

    median: float
    low: float
    high: float


def spread(values: Iterable[float]) -> Spread | None:
    """None for no number at all."""
    known = list(values)
    return Spread(statistics.median(known), min(known), max(known)) if known else None


def values_of(rounds: Sequence[Data], key: str) -> list[float]:
    """A number of each round that has it. W10 is W10's rate as a part of W2's in the same round."""
    if key == "w10":
        both = [each["values"] for each in rounds if "w10_rate" in each["values"] and "w2" in each["values"]]
        return [each["w10_rate"] / each["w2"] for each in both]
    return [each["values"][key] for each in rounds if key in each["values"]]


def ratios(rounds: Sequence[Data], goal: Goal) -> list[float]:
    """How near each round came to PostgreSQL's own limit in that round; 1 is as fast, more is faster."""
    found = []
    for each in rounds:
        value, limit = each["values"].get(goal.key), each["limits"].get(goal.limit)
        if value and limit:
            found.append(limit / value if goal.lower else value / limit)
    return found


def number(value: float) -> str:
    """Three digits that say something, thousands with commas."""
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size >= 100 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def _unit(text: str, unit: str) -> str:
    return text if not unit or not text else text + unit if unit == "/s" else f"{text} {unit}"


def _ranged(found: Spread | None, unit: str = "") -> str:
    if found is None:
        return ""
    if found.low == found.high:
        return _unit(number(found.median), unit)
    return f"{_unit(number(found.median), unit)} ({number(found.low)} to {number(found.high)})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return [*lines, *("| " + " | ".join(row) + " |" for row in rows), ""]


def _rounds(rounds: Sequence[Data]) -> str:
    if len(rounds) == 1:
        return "One round, so there are no ranges."
    return f"Medians of {len(rounds)} rounds, each on a server of its own."


def _results(rounds: Sequence[Data]) -> list[str]:
    rows = []
    for goal in GOALS:
        found = spread(values_of(rounds, goal.key))
        if found is None or goal.floor is None:
            continue
        bounds = [_unit(number(each), goal.unit) if each is not None else "" for each in (goal.floor, goal.aim)]
        near = spread(ratios(rounds, goal))
        limit = spread(each["limits"][goal.limit] for each in rounds) if near and goal.limit else None
        beside = number(limit.median) if limit else ""
        row = [goal.workload, goal.what, _ranged(found, goal.unit), *bounds, _VERDICTS[goal.verdict(found.median)]]
        rows.append([*row, beside, _ranged(near)])
    head = ["id", "what", "median (range)", "floor", "aim", "", "pgbench", "ratio to pgbench (range)"]
    return _table(head, rows)


def _others(rounds: Sequence[Data]) -> list[str]:
    rows = [
        [goal.workload, goal.what, _ranged(spread(values_of(rounds, goal.key)), goal.unit)]
        for goal in GOALS
        if goal.floor is None and values_of(rounds, goal.key)
    ]
    return _table(["", "what", "median (range)"], rows) if rows else []


def _limits(rounds: Sequence[Data]) -> list[str]:
    rows = [
        [f"`{key}`", what, _ranged(spread(each["limits"][key] for each in rounds))] for key, what in _LIMITS.items()
    ]
    return _table(["", "what pgbench does", "median (range)"], rows)


def _costs(rounds: Sequence[Data]) -> list[str]:
    rows = []
    for workload in dict.fromkeys(goal.workload for goal in GOALS):
        found = [each["costs"][workload] for each in rounds if workload in each["costs"]]
        if not found:
            continue

        def median(key: str, per: str | None = None, of: Sequence[Data] = found) -> float:
            return float(statistics.median(each[key] / (each[per] if per else 1) for each in of))

        cells = [
            f"{found[0]['count']:,}",
            number(median("seconds")),
            number(median("worker_cpu")),
            number(median("postgres_cpu")),
            number(median("wal", "count")),
            f"{median('transactions', 'count'):.3g}",
            number(median("connections")),
            number(median("memory") / 1e6),
        ]
        rows.append([workload, *cells])
    if not rows:
        return []
    head = ["id", "runs", "seconds", "worker CPU s", "PostgreSQL CPU s", "WAL bytes/run", "commits/run"]
    table = _table([*head, "connections", "peak MB of the workers"], rows)
    return [
        "## What it costs",
        "",
        "The starts of the runs included; CPU and memory are sums of all processes.",
        "",
        *table,
    ]


def _definitions(rounds: Sequence[Data], sizes: Mapping[str, Any]) -> list[str]:
    known = {goal.workload for goal in GOALS if values_of(rounds, goal.key)}
    words = {**sizes, "resumes": " and ".join(f"{times} for {steps:,}" for steps, times in sizes["resumes"])}
    names = dict.fromkeys(goal.workload for goal in GOALS)
    return [*(f"- **{name}**: {definition_of(name, words)}" for name in names if name in known), ""]


def _facts(facts: Mapping[str, Any]) -> list[str]:
    return _table(["fact", ""], ([name, str(value)] for name, value in facts.items()))


def _cliffs(cliffs: Data) -> list[str]:
    rounds: Sequence[Mapping[str, Mapping[str, float]]] = cliffs["rounds"]
    rows = []
    for case in dict.fromkeys(name for each in rounds for name in each):
        cells = [case]
        for key in ("w2", "w3"):
            here = [each for each in rounds if key in each.get(case, {})]
            rate = spread(each[case][key] for each in here)
            part = spread(each[case][key] / each[PLAIN][key] for each in here)
            cells += [_ranged(rate, "/s"), _ranged(part) if case != PLAIN else "1"]
        rows.append(cells)
    return [
        "## No cliff",
        "",
        "W2 (runs/s) and W3 (steps/s), each under one burden, and as a part of the plain case of the same round: what "
        "is near 1 is no cliff. A queue that holds 1 or 100 runs ends before it has begun, so there the ratio shows "
        "the latency of a start; runs with payloads of 1 MiB are measured by the run.",
        "",
        *_table(["burden", "W2 (range)", "of plain", "W3 (range)", "of plain"], rows),
    ]


def markdown(data: Data, chart: str | None) -> str:
    """The whole report. `chart` is the link to its picture, if it has one."""
    lines = [
        "# Performance",
        "",
        "Written by `make bench` and `make bench-cliffs`; the raw numbers are in `performance.json`. One worker "
        "process with default settings, step functions that return an int, a fresh embedded server with the "
        "durability that PostgreSQL has by default. A number is a median with its range.",
        "",
    ]
    rounds = data.get("rounds", [])
    if rounds:
        lines += ["## Results", ""]
        if chart:
            lines += [f"![Each result as a multiple of its floor]({chart})", ""]
        lines += [
            f"{_rounds(rounds)} The limit beside a result is pgbench's, in "
            "the same round; the ratio is 1 where flowgen is as fast as PostgreSQL alone.",
            "",
            *_results(rounds),
            *_others(rounds),
        ]
        lines += ["## Limits of PostgreSQL on this machine", "", *_limits(rounds)]
        lines += _costs(rounds)
        lines += ["## What exactly is measured", "", *_definitions(rounds, data["sizes"])]
        lines += ["## Machine", "", *_facts(data["facts"])]
    if data.get("cliffs"):
        lines += _cliffs(data["cliffs"])
        if not rounds or data["cliffs"]["facts"] != data["facts"]:
            lines += ["Measured on:", "", *_facts(data["cliffs"]["facts"])]
    return "\n".join(lines).rstrip() + "\n"
