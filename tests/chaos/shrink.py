"""Make a plan that breaks an invariant smaller: leave out faults while it is still broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import attrs

from tests.chaos.harness import Harness, Outcome
from tests.chaos.plan import Fault, Plan

TRIES = 2
"""How often a plan may hold before it is believed: what is free may go another way."""


def smallest(faults: Sequence[Fault], breaks: Callable[[tuple[Fault, ...]], bool]) -> tuple[Fault, ...]:
    """What is left of the faults when each half, quarter, ... and at last each one has been tried without."""
    left = tuple(faults)
    size = max(1, len(left) // 2)
    while size:
        place = 0
        while place < len(left):
            fewer = left[:place] + left[place + size :]
            if breaks(fewer):
                left = fewer
            else:
                place += size
        size //= 2
    return left


def shrink(
    plan: Plan, outcome: Outcome, folder: Path, fleet: dict[str, int], say: Callable[[str], None]
) -> tuple[Fault, ...]:
    """The faults that are enough for the invariants that `outcome` broke; `shrunk.json` in the folder is the plan."""
    wanted = {name for name, found in outcome.violations.items() if found} or {"I2"}
    rounds = 0

    def breaks(faults: tuple[Fault, ...]) -> bool:
        nonlocal rounds
        rounds += 1
        fewer = attrs.evolve(plan, faults=faults)
        broken = any(_breaks(fewer, folder / f"shrink-{rounds}-{again}", fleet, wanted) for again in range(TRIES))
        if broken:
            fewer.save(folder / "shrunk.json")
            say(f"{len(faults)} faults are enough: {folder / 'shrunk.json'}")
        return broken

    return smallest(plan.faults, breaks)


def _breaks(plan: Plan, folder: Path, fleet: dict[str, int], wanted: set[str]) -> bool:
    found = Harness(folder, plan, **fleet, say=lambda text: None).run()
    broken = {name for name, each in found.violations.items() if each}
    return bool(broken & wanted) or (not found.drained and "I2" in wanted)
