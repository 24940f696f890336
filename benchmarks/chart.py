"""The chart: each result as a multiple of its floor, on a logarithmic axis, as an SVG written by hand.

A bar ends at the median, a line shows the range, a tick the aim. It has no script and no font of its own, and is
readable on a light and on a dark page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.goals import GOALS, Goal
from benchmarks.report import number, spread, values_of

__all__ = ["svg"]

WIDTH = 860
LEFT = 290
RIGHT = 90
TOP = 44
ROW = 24
FIRST, LAST = 0.1, 10.0
"""The ends of the axis: multiples of the floor."""

_COLOURS = {"aim": "#1a7f5a", "floor": "#3b78c2", "below": "#c2572b"}


def _x(score: float) -> float:
    part = math.log(min(max(score, FIRST), LAST) / FIRST) / math.log(LAST / FIRST)
    return round(LEFT + part * (WIDTH - LEFT - RIGHT), 1)


def _text(x: float, y: float, text: str, *, anchor: str = "start", faint: bool = False) -> str:
    more = ' opacity="0.65"' if faint else ""
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}"{more}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, *, width: float = 1, opacity: float = 1) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke-width="{width}" opacity="{opacity}"/>'


def _axis(bottom: float) -> list[str]:
    marks = []
    for score in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0):
        marks.append(_line(_x(score), TOP, _x(score), bottom, opacity=0.8 if score == 1 else 0.2))
        marks.append(_text(_x(score), TOP - 8, "floor" if score == 1 else f"{score:g} x", anchor="middle", faint=True))
    return marks


def _row(goal: Goal, values: Sequence[float], top: float) -> list[str]:
    found = spread(values)
    score = goal.score(found.median) if found else None
    if found is None or score is None:
        return []
    middle = top + ROW / 2
    label = number(found.median) + (goal.unit if goal.unit == "/s" else f" {goal.unit}".rstrip())
    parts = [
        _text(LEFT - 10, middle + 4, f"{goal.workload}  {goal.what}", anchor="end"),
        f'<rect x="{LEFT}" y="{top + 5}" width="{max(1.0, round(_x(score) - LEFT, 1))}" height="{ROW - 10}" rx="2" '
        f'fill="{_COLOURS[goal.verdict(found.median)]}" stroke="none"/>',
        _text(WIDTH - RIGHT + 8, middle + 4, label),
    ]
    ends = [each for each in (goal.score(found.low), goal.score(found.high)) if each is not None]
    if len(ends) == 2 and found.low != found.high:
        parts.append(_line(_x(min(ends)), middle, _x(max(ends)), middle, width=2, opacity=0.8))
    aim = goal.score(goal.aim) if goal.aim else None
    if aim is not None:
        parts.append(_line(_x(aim), top + 3, _x(aim), top + ROW - 3, width=2))
    return parts


def svg(rounds: Sequence[Mapping[str, Any]]) -> str:
    """The picture of all results that have a floor."""
    rows = []
    for goal in GOALS:
        values = values_of(rounds, goal.key)
        if values and _row(goal, values, 0):
            rows.append((goal, values))
    bottom = TOP + ROW * len(rows)
    parts = [part for at, (goal, values) in enumerate(rows) for part in _row(goal, values, TOP + ROW * at)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 30}" role="img" '
            'font-family="sans-serif" font-size="12">',
            "<title>Each result as a multiple of its floor</title>",
            "<style>svg { color: #1f2328 } text { fill: currentColor } line { stroke: currentColor } "
            "@media (prefers-color-scheme: dark) { svg { color: #d7dce2 } }</style>",
            *_axis(bottom),
            *parts,
            _text(
                LEFT,
                bottom + 20,
                "A bar is the median, its line the range, a tick the aim; longer is better.",
                faint=True,
            ),
            "</svg>",
            "",
        ]
    )
