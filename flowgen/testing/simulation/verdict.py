"""Judges the schedules of one plan, and tells of the first that fails.

The invariant: whatever fails is shown as the smallest schedule that was found to fail in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from flowgen.core import codec
from flowgen.core.states import Status, public
from flowgen.core.trace import Trace
from flowgen.errors import CodecError
from flowgen.testing.simulated import Simulated
from flowgen.testing.simulation.plan import Plan
from flowgen.testing.simulation.row import Row
from flowgen.testing.simulation.schedules import Check, Failing, by_list, by_number, smallest
from flowgen.testing.simulation.witness import Violated
from flowgen.testing.simulation.world import World

__all__ = ["Verdict", "left_by"]

LINES: Final = 80
"""Of a story in a message; the middle of a longer one is left out."""


class Verdict:
    """What a test asks of a plan."""

    def __init__(
        self,
        plan: Plan,
        invariant: Callable[[Simulated[Any]], object] | None,
        again: Callable[[list[int]], str] | None = None,
    ) -> None:
        """`again` says how to run a schedule again, in place of a call of `simulate`."""
        self._plan = plan
        self._invariant = invariant
        self._again = again or (lambda schedule: f"simulate(..., seed={plan.seed}, schedule={schedule})")
        self._expected: tuple[Any, ...] | None = None

    def one(self, schedule: list[int]) -> Simulated[Any]:
        """Run one schedule. Raises AssertionError."""
        if self._invariant is None and schedule:
            self._undisturbed()
        story: list[str] = []
        try:
            world = by_list(self._plan, self._check, schedule, story)
        except Violated as violated:
            raise self._told(Failing(schedule, violated)) from violated.__cause__
        return left_by(world, schedule, story)

    def many(self, count: int) -> Simulated[Any]:
        """Run the undisturbed schedule, then so many others. Raises AssertionError."""
        undisturbed = self._undisturbed()
        for number in range(count):
            failing = by_number(self._plan, self._check, number)
            if failing is not None:
                failing = smallest(self._plan, self._check, failing)
                raise self._told(failing) from failing.violated.__cause__
        return undisturbed

    def _undisturbed(self) -> Simulated[Any]:
        try:
            world = by_list(self._plan, self._check, [])
        except Violated as violated:
            raise self._told(Failing([], violated)) from violated.__cause__
        self._expected = _end(world.root)
        return left_by(world, [], [])

    @property
    def _check(self) -> Check:
        return self._same if self._invariant is None else self._asked

    def _same(self, world: World) -> None:
        end = _end(world.root)
        outside = end[0] == Status.CANCELLED or "RunTimedOut" in end
        if self._expected is not None and end != self._expected and not outside:
            raise Violated("I3", f"the run came to {_shown(end)}, and undisturbed to {_shown(self._expected)}")

    def _asked(self, world: World) -> None:
        assert self._invariant is not None
        try:
            answer = self._invariant(left_by(world, world.choices.taken, []))
        except AssertionError as error:
            raise Violated("invariant", str(error) or "it was refused") from error
        if answer is False:
            raise Violated("invariant", f"it is False of a run that came to {_shown(_end(world.root))}")

    def _told(self, failing: Failing) -> AssertionError:
        story: list[str] = []
        try:
            by_list(self._plan, self._check, failing.schedule, story)
        except Violated:
            pass
        if len(story) > LINES:
            half = LINES // 2
            story[half:-half] = [f"... {len(story) - LINES} more ..."]
        told = "\n".join(f"  {line}" for line in story)
        return AssertionError(
            f"{self._plan.definition.name} violates {failing.violated}\n\nWhat happened:\n{told}\n\n"
            f"Again: {self._again(failing.schedule)}"
        )


def _end(row: Row) -> tuple[Any, ...]:
    """What a run came to, as it is compared: a failure by its type and message."""
    if row.status != Status.FAILED:
        return row.status, row.output
    error: Any = codec.decode(row.error or "{}")
    return row.status, error.get("type"), error.get("message")


def _shown(end: tuple[Any, ...]) -> str:
    return f"{public(end[0])} ({', '.join(map(str, end[1:]))})"


def left_by(world: World, schedule: list[int], story: list[str]) -> Simulated[Any]:
    """What an invariant is asked of."""
    witness = world.witness
    return Simulated(
        trace=_trace(world, world.root),
        runs=tuple(_trace(world, row) for row in world.store.runs.values()),
        calls=tuple(witness.calls),
        committed=tuple(key for _, key in witness.effects),
        ended_at=world.store.now,
        schedule=tuple(schedule),
        story="\n".join(story),
    )


def _trace(world: World, row: Row) -> Trace[Any]:
    value = None
    definition = world.plan.definitions.get(row.new.name)
    if row.output is not None and definition is not None:
        try:
            value = codec.decode(row.output, definition.function.result_type, what="the result")
        except CodecError:
            value = codec.decode(row.output)
    return Trace(
        name=row.new.name,
        kind=str(row.new.kind),
        input=row.new.input,
        items=tuple(row.current),
        base=row.base,
        prologue=row.prologue,
        output=row.output,
        error=row.error,
        status=str(public(row.status)),
        run_id=row.new.id or str(row.run_id),
        value=value,
    )
