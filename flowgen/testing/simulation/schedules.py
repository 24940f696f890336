"""Runs schedules of a plan: one by its list, or one by its number, and finds the smallest that fails.

The invariant: a schedule by its number and the same one by its list end in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeAlias

import attrs

from flowgen.testing.simulation.audit import audit
from flowgen.testing.simulation.choices import Choices
from flowgen.testing.simulation.plan import Plan
from flowgen.testing.simulation.shrinking import shrunk
from flowgen.testing.simulation.witness import Violated
from flowgen.testing.simulation.world import World

__all__ = ["Check", "Failing", "by_list", "by_number", "smallest"]

Check: TypeAlias = Callable[[World], None]
"""Looks at a world that has ended. Raises Violated."""


@attrs.frozen
class Failing:
    """A schedule that violates something."""

    schedule: list[int]
    violated: Violated


def by_list(plan: Plan, check: Check, schedule: Sequence[int], story: list[str] | None = None) -> World:
    """Run one schedule. Raises Violated, and AssertionError for what the test itself got wrong."""
    world = World(plan, Choices(None, schedule), story)
    _run(world, check)
    return world


def by_number(plan: Plan, check: Check, number: int) -> Failing | None:
    """Run the schedule of this number; what it violates, or None. An error of another kind names the schedule."""
    choices = Choices(Random(f"{plan.seed}/{number}"))  # noqa: S311 - a schedule is no secret
    world = World(plan, choices)
    try:
        _run(world, check)
    except Violated as violated:
        return Failing(choices.taken, violated)
    except Exception as error:
        error.add_note(f"in the schedule {choices.taken}")
        raise
    return None


def smallest(plan: Plan, check: Check, failing: Failing) -> Failing:
    """A small schedule that violates the same."""
    found = failing

    def fails(schedule: list[int]) -> bool:
        nonlocal found
        try:
            by_list(plan, check, schedule)
        except Violated as violated:
            if violated.id == failing.violated.id:
                found = Failing(schedule, violated)
                return True
        return False

    shrunk(failing.schedule, fails)
    return found


def _run(world: World, check: Check) -> None:
    try:
        world.run()
        audit(world)
        check(world)
    finally:
        world.close()
