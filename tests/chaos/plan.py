"""The plan: which runs are started when, and which faults follow after how much progress. Seeded, and written first.

A fault comes after so many lines of the witness, counted from the one before; when there is little progress, after
`within` seconds. So a plan keeps its shape on a slower machine. The same seed and sizes are the same plan; what comes
of it is only likely to be the same, as the processes run freely.
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

Action = Literal[
    "workers", "stop", "postgres", "backend", "terminate", "ack", "reset", "blackhole", "rolling", "supervisor"
]
FLOWS = {
    "linear": 20, "wobbly": 8, "far": 1, "late": 4, "once": 10, "nap": 8, "doomed": 4, "family": 6, "pages": 12,
    "planned": 2, "books": 10, "fan": 6, "facts": 8, "coroutine": 8, "lone": 8, "tidy": 10, "deployed": 6, "fresh": 4,
    "odd": 8, "heavy": 1.5, "strange": 0.5, "strict": 0.5, "mapped": 1.5, "raced": 2, "woven": 2, "trip": 3,
    "chat": 2, "hub": 1.5, "promised": 2, "mended": 1.5, "rounds": 3, "ahead": 3,
}  # fmt: skip
"""Definitions with their weights; poison is counted, as each of it costs five processes."""

_SIZES = (1, 1, 1, 2, 2, 2, 3, 3)
"""Workers killed at one moment."""
LOST = ("flush", "finish_transaction", "claim\\(", "attach_child", "release_runs", "schedule", "worker")
"""Statements whose answer is lost."""


@attrs.frozen
class Start:
    """One thing that the client does.

    `again` repeats the start of an id, `clash` gives an id to another input, `cancel` cancels what was started as `n`,
    `sql` starts it with an input that does not fit, `mend` decides about its failed step.
    """

    n: int
    name: str
    at: float
    id: str | None = None
    kind: Literal["new", "again", "clash", "cancel", "sql", "mend"] = "new"


@attrs.frozen
class Fault:
    """One moment of trouble."""

    after: int
    within: float
    action: Action
    picks: tuple[float, ...] = ()
    """Which of those that can be hit are, each as a share of their list."""
    down: float = 0.0
    """Seconds until what was killed is started again, or what was stopped or cut off goes on."""
    arg: str = ""


@attrs.frozen
class Plan:
    """What one run of the harness does."""

    seed: int
    lease: float
    starts: tuple[Start, ...]
    faults: tuple[Fault, ...]
    heartbeat: float = 0.5
    poll: float = 0.25

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.text().encode()).hexdigest()[:16]

    def count(self, *actions: Action) -> int:
        """Faults of a kind; of workers, those that are killed."""
        return sum(
            len(fault.picks) if fault.action == "workers" else 1 for fault in self.faults if fault.action in actions
        )

    def text(self) -> str:
        return json.dumps(attrs.asdict(self), separators=(",", ":"))

    def save(self, path: Path) -> None:
        path.write_text(self.text(), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Plan:
        given: Any = json.loads(path.read_text(encoding="utf-8"))
        return cattrs.structure(given, cls)


@attrs.frozen(kw_only=True)
class Size:
    """How much of everything a plan has."""

    runs: int = 500
    workers: int = 20
    stops: int = 5
    postgres: int = 2
    terminates: int = 4
    backends: int = 1
    acks: int = 2
    resets: int = 1
    blackholes: int = 1
    rolling: int = 0
    supervisors: int = 1
    poison: int = 1
    lease: float = 2.0
    heartbeat: float = 0.5
    poll: float = 0.25
    gap: float = 1.2
    """Seconds between two faults, on average."""
    outage: float = 2.5
    """Seconds for which a server that was killed stays away, at the most; its recovery comes on top."""
    stopped: float = 1.0
    """Leases for which a worker is stopped, at the most, beyond the 1.4 that it is always."""
    flows: dict[str, float] = attrs.field(factory=lambda: dict(FLOWS))
    lost: tuple[str, ...] = LOST
    """Statements of which an answer is lost."""
    hit: str = ""
    """Connections that are terminated: those with this in their name; any of a worker's when empty."""


GATE = Size()
NIGHTLY = Size(
    runs=10_000, workers=200, stops=30, postgres=20, terminates=85, backends=15, acks=50, resets=15, blackholes=10,
    rolling=5, supervisors=5, poison=10, gap=1.4,
)  # fmt: skip


def make(seed: int, size: Size) -> Plan:
    """The plan of a seed."""
    dice = random.Random(seed)
    faults = _faults(dice, size)
    seconds = len(faults) * size.gap
    return Plan(seed, size.lease, _starts(dice, size, seconds), faults, size.heartbeat, size.poll)


def _volleys(dice: random.Random, size: Size) -> list[tuple[Action, int]]:
    volleys: list[tuple[Action, int]] = []
    left = size.workers
    while left:
        many = min(left, dice.choice(_SIZES))
        volleys.append(("workers", many))
        left -= many
    ones: tuple[tuple[Action, int], ...] = (
        ("stop", size.stops), ("postgres", size.postgres), ("terminate", size.terminates), ("backend", size.backends),
        ("ack", size.acks), ("reset", size.resets), ("blackhole", size.blackholes), ("rolling", size.rolling),
        ("supervisor", size.supervisors),
    )  # fmt: skip
    for action, many in ones:
        volleys += [(action, 1)] * many
    dice.shuffle(volleys)
    return volleys


def _faults(dice: random.Random, size: Size) -> tuple[Fault, ...]:
    volleys = _volleys(dice, size)
    lines = 28 * size.runs / max(1.0, len(volleys) * size.gap)
    found: list[Fault] = []
    for action, many in volleys:
        longest = {"workers": 0.8, "postgres": size.outage, "supervisor": 0.8, "stop": size.stopped * size.lease}
        longest["blackhole"] = 1.5 * size.lease
        down = longest.get(action, 0.0) * dice.random()
        if action == "stop":
            down += 1.4 * size.lease  # beyond the lease, and what the reaper needs
        found.append(
            Fault(
                after=int(dice.expovariate(1 / (size.gap * lines))),
                within=round(size.gap * (1.0 + 0.6 * dice.random()), 2),
                action=action,
                picks=tuple(round(dice.random(), 4) for _ in range(many)),
                down=round(down, 2),
                arg=dice.choice(size.lost) if action == "ack" else size.hit if action == "terminate" else "",
            )
        )
    return tuple(found)


def _starts(dice: random.Random, size: Size, seconds: float) -> tuple[Start, ...]:
    starts: list[Start] = []
    named: list[Start] = []
    poisoned = set(dice.sample(range(1, max(2, int(size.runs * 0.6))), size.poison))
    for n in range(1, size.runs + 1):
        name = "poison" if n in poisoned else dice.choices(list(size.flows), list(size.flows.values()))[0]
        at = round(seconds * n / size.runs, 3)
        start = Start(n, name, at, f"chaos-{n}" if dice.random() < 0.5 and name != "strict" else None)
        if name == "strict":
            start = attrs.evolve(start, kind="sql")
        starts.append(start)
        if name == "mended":
            starts += [
                attrs.evolve(start, at=round(at + 2 + later + dice.random(), 3), kind="mend") for later in (0, 4)
            ]
        if start.id is not None:
            named.append(start)
        if name not in ("poison", "strict") and dice.random() < 0.02:
            starts.append(Start(n, name, round(at + dice.random() * 2.5, 3), start.id, "cancel"))
        if named and dice.random() < 0.01:
            starts.append(attrs.evolve(dice.choice(named[-50:]), at=at, kind="again"))
        if named and dice.random() < 0.005:
            old = dice.choice(named[-50:])
            starts.append(Start(size.runs + len(starts), old.name, at, old.id, "clash"))
    return tuple(sorted(starts, key=lambda start: start.at))


def share(pick: float, among: Sequence[str]) -> str:
    """The one of `among` that a pick means."""
    return among[min(int(pick * len(among)), len(among) - 1)]
