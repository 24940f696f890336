"""Make a plan that breaks an invariant smaller: leave out faults one by one while it is still broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs

from tests.chaos.harness import Harness, Outcome
from tests.chaos.plan import Fault, Plan

TRIES = 2
"""How often a plan may hold before it is believed: what is free may go another way."""


def shrink(
    plan: Plan, outcome: Outcome, folder: Path, fleet: dict[str, int], say: Callable[[str], None]
) -> tuple[Fault, ...]:
    """The faults that are left. `folder` gets `shrunk.json`, a plan, whenever it became smaller."""
    wanted = {name for name, found in outcome.violations.items() if found} or {"I2"}
    faults = list(plan.faults)
    size = max(1, len(faults) // 2)
    rounds = 0
    while size:
        place = 0
        while place < len(faults):
            fewer = faults[:place] + faults[place + size :]
            rounds += 1
            if _breaks(attrs.evolve(plan, faults=tuple(fewer)), folder / f"shrink-{rounds}", fleet, wanted):
                faults = fewer
                attrs.evolve(plan, faults=tuple(faults)).save(folder / "shrunk.json")
                say(f"{len(faults)} faults are enough: {folder / 'shrunk.json'}")
            else:
                place += size
        size //= 2
    return tuple(faults)


def _breaks(plan: Plan, folder: Path, fleet: dict[str, int], wanted: set[str]) -> bool:
    for again in range(TRIES):
        found = Harness(folder / str(again), plan, **fleet, say=lambda text: None).run()
        broken = {name for name, each in found.violations.items() if each}
        if broken & wanted or (not found.drained and "I2" in wanted):
            return True
    return False
