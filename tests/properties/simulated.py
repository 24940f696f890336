"""Random handlers on simulated workers: one example is a program, its seed and what may happen to it.

    python -m tests.properties.simulated < the last line of a failure

runs what failed again, and tells its story.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import attrs

from flowgen.core.commands import Choose
from flowgen.core.context import current
from flowgen.core.definitions import Task
from flowgen.errors import PermanentError
from flowgen.testing.simulation.plan import Plan
from flowgen.testing.simulation.verdict import Verdict

from .handlers import ONCE, Program, choose, definitions, each_of, save, walk, work

__all__ = ["Example", "again", "verdict"]


@attrs.frozen
class Example:
    """What `verdict` judges."""

    program: Program
    seed: int
    attempts: int
    spelling: int
    """The generator or the coroutine."""
    cancels: bool
    ahead: bool = False
    """Its steps run ahead of their commits."""


OUTSIDE: dict[Any, Any] = {
    "wait:token": "told", "wait:token#2": ValueError("refused"), "signal:x#2": "from outside", "signal:y": "outside",
}  # fmt: skip
"""What somebody outside says to waits, by their names; the others are told nothing."""


def called(label: str, fails: int) -> str:
    """Fails as often as the program says, for good when that is negative."""
    attempt = current().attempt
    if fails < 0:
        raise PermanentError(label)
    if attempt <= fails:
        raise ValueError(f"{label} {attempt}")
    return f"{label} {attempt}"


def child(label: str) -> str:
    return f"the child {label}"


CHILD: Task[Any, Any, Any] = Task(child, None, ONCE)


def is_steady(program: Program) -> bool:
    """Whether nothing in it depends on time, on chance, or on what comes first."""
    return not any(
        node.get("do") in ("now", "uuid", "random", "gather", "map", "race", "graph", "emit", "event", "token")
        or node.get("once")
        or node.get("timeout")
        for node in walk(program)
    )


def verdict(example: Example) -> Verdict:
    """Its failures end with a line for `again`."""
    plan = Plan(
        definition=definitions(example.attempts, example.ahead)[example.spelling],
        input=json.dumps({"spec": example.program}),
        outcomes={
            work: called,
            save: called,
            each_of: lambda item: called(*item),
            choose: lambda names: Choose(*names),
            **OUTSIDE,
        },
        cancels=example.cancels,
        services=list,
        seed=example.seed,
        definitions={"child": CHILD},
    )

    def line(schedule: list[int]) -> str:
        said = json.dumps({**attrs.asdict(example), "schedule": schedule})
        return f"python -m tests.properties.simulated, and give it this line:\n{said}"

    return Verdict(plan, None if is_steady(example.program) else lambda ended: None, line)


def again(line: str) -> str:
    """The story of what failed, now that it does not. Raises AssertionError when it still does."""
    given = json.loads(line)
    schedule = given.pop("schedule")
    return verdict(Example(**given)).one(schedule).story


if __name__ == "__main__":
    print(again(sys.stdin.readline()))
