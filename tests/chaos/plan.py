"""The plan: which runs are started when, and which kills follow after how much progress. Seeded, and written first.

A fault comes after so many lines of the witness, counted from the one before; when there is little progress, after
`within` seconds. So a plan keeps its shape on a slower machine.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import attrs
import cattrs

Action = Literal["workers", "postgres", "supervisor"]
FLOWS = {
    "linear": 4, "wobbly": 2, "far": 1, "late": 1, "once": 3, "nap": 2, "doomed": 1, "family": 3, "pages": 4,
    "planned": 1, "books": 3, "fan": 3, "facts": 2, "coroutine": 2, "lone": 2,
}  # fmt: skip
"""Definitions with their weights."""

_SIZES = (1, 1, 1, 2, 2, 2, 3, 3, 4)
"""Workers killed at one moment."""


@attrs.frozen
class Start:
    """One thing that the client does: `again` repeats the start of an id, `clash` gives an id to another input."""

    n: int
    name: str
    at: float
    id: str | None = None
    kind: Literal["new", "again", "clash"] = "new"


@attrs.frozen
class Fault:
    """One moment of killing."""

    after: int
    within: float
    action: Action
    picks: tuple[float, ...] = ()
    """Which of the live workers are killed, each as a share of their list."""
    down: float = 0.0
    """Seconds until what was killed is started again."""


@attrs.frozen
class Plan:
    """What one run of the harness does."""

    seed: int
    lease: float
    starts: tuple[Start, ...]
    faults: tuple[Fault, ...]

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.text().encode()).hexdigest()[:16]

    @property
    def worker_kills(self) -> int:
        return sum(len(fault.picks) for fault in self.faults)

    @property
    def postgres_kills(self) -> int:
        return sum(fault.action == "postgres" for fault in self.faults)

    def text(self) -> str:
        return json.dumps(attrs.asdict(self), separators=(",", ":"))

    def save(self, path: Path) -> None:
        path.write_text(self.text(), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Plan:
        given: Any = json.loads(path.read_text(encoding="utf-8"))
        return cattrs.structure(given, cls)


def make(
    seed: int, *, worker_kills: int, postgres_kills: int, runs: int, lease: float, gap: float, lines: int = 60
) -> Plan:
    """A plan of `runs` starts and so many kills, one moment of killing every `gap` seconds at `lines` per second."""
    dice = random.Random(seed)
    faults = _faults(dice, worker_kills, postgres_kills, gap, lines)
    return Plan(seed, lease, _starts(dice, runs, len(faults) * gap), faults)


def _faults(dice: random.Random, worker_kills: int, postgres_kills: int, gap: float, lines: int) -> tuple[Fault, ...]:
    volleys: list[tuple[Action, int]] = []
    left = worker_kills
    while left:
        size = min(left, dice.choice(_SIZES))
        volleys.append(("workers", size))
        left -= size
    for place in dice.sample(range(len(volleys)), min(postgres_kills, len(volleys)) // 2):
        volleys[place] = ("postgres", volleys[place][1])
    volleys += [("postgres", 0)] * (postgres_kills - sum(action == "postgres" for action, _ in volleys))
    volleys += [("supervisor", 0)] * (worker_kills // 40)
    dice.shuffle(volleys)
    return tuple(
        Fault(
            after=int(dice.expovariate(1 / (gap * lines))),
            within=round(gap * (1.2 + 0.6 * dice.random()), 2),
            action=action,
            picks=tuple(round(dice.random(), 4) for _ in range(size)),
            down=round(dice.random() * (3.0 if action == "postgres" else 1.5), 2),
        )
        for action, size in volleys
    )


def _starts(dice: random.Random, runs: int, seconds: float) -> tuple[Start, ...]:
    starts: list[Start] = []
    named: list[Start] = []
    for n in range(1, runs + 1):
        name = dice.choices(list(FLOWS), list(FLOWS.values()))[0]
        at = round(seconds * n / runs, 3)
        start = Start(n, name, at, f"chaos-{n}" if dice.random() < 0.5 else None)
        starts.append(start)
        if start.id is not None:
            named.append(start)
        if named and dice.random() < 0.04:
            old = dice.choice(named[-50:])
            starts.append(attrs.evolve(old, at=at, kind="again"))
        if named and dice.random() < 0.02:
            old = dice.choice(named[-50:])
            starts.append(Start(runs + len(starts), old.name, at, old.id, "clash"))
    return tuple(starts)


def share(pick: float, among: Sequence[str]) -> str:
    """The one of `among` that a pick means."""
    return among[min(int(pick * len(among)), len(among) - 1)]
