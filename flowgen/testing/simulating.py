"""`simulate`: a workflow on several workers that crash, stall and lose answers, in virtual time, from a seed.

It runs the agents of real workers over a store in memory; no database, no threads, no sleeps. What it finds it makes
small and tells as a story.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar, cast

from flowgen.app import app
from flowgen.core.definitions import Call, Definition
from flowgen.core.inputs import encode_input
from flowgen.testing.bench import BEGINNING
from flowgen.testing.simulated import Simulated

__all__ = ["simulate"]

T = TypeVar("T")


def simulate(
    call: Call[T] | Definition[..., Any, T],
    /,
    *,
    invariant: Callable[[Simulated[T]], object] | None = None,
    outcomes: Mapping[Any, object] | None = None,
    schedules: int = 200,
    seed: int = 0,
    crashes: bool = True,
    cancels: bool = False,
    workers: int = 3,
    services: object = None,
    now: datetime = BEGINNING,
    schedule: Sequence[int] | None = None,
) -> Simulated[T]:
    """Run a call on simulated workers, once undisturbed and then in `schedules` ways in which things go wrong.

    Events come in any order that a real system permits; with `crashes` workers die, stall beyond their lease and come
    back, answers and requests of the database get lost, runs are paused and resumed; with `cancels` the run is also
    cancelled at a random moment. Functions are called, as often as a real worker would; `outcomes` says what they and
    child runs come to instead, as for `drive`, but that an exception is raised by each call. A Transaction needs it.
    What it says of waits for signals, events and tokens is sent at any moment from the wait on.

    `invariant` is asked of each end, and fails when it raises AssertionError or returns False. Without it each schedule
    must come to what the undisturbed run came to. The engine's own promises are checked in any case.
    `services` is what `ctx.services` gives; `now` is when the run starts.

    Returns the undisturbed run; with `schedule`, which an earlier failure has shown, only that is run and returned.
    Raises AssertionError with the shortest story that was found, and the schedule to run it again.
    """
    from flowgen.testing.simulation.plan import Plan
    from flowgen.testing.simulation.verdict import Verdict

    given = _call_of(call)
    for name, value in (("schedules", schedules), ("workers", workers)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"simulate({name}=) is {value!r}: give a whole number of 1 or more")
    definition = given.definition if given.definition is not None else app.definition(given.name)
    plan = Plan(
        definition=definition,
        input=encode_input(definition, given.name, given.arguments),
        id=given.options.id,
        delay=given.options.delay,
        deadline=given.options.deadline,
        outcomes=dict(outcomes or {}),
        workers=workers,
        crashes=crashes,
        cancels=cancels,
        services=lambda: services,
        now=now,
        seed=seed,
    )
    verdict = Verdict(plan, cast(Any, invariant))
    if schedule is not None:
        return cast(Simulated[T], verdict.one(_choices(schedule)))
    return cast(Simulated[T], verdict.many(schedules))


def _call_of(call: object) -> Call[Any]:
    if isinstance(call, Definition):
        return call.call()  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    if isinstance(call, Call):
        return call
    raise TypeError(
        f"simulate takes a call, such as checkout.call('o-1'), or a workflow without arguments, not {call!r}"
    )


def _choices(schedule: Sequence[object]) -> list[int]:
    found = [each for each in schedule if isinstance(each, int)]
    if len(found) != len(schedule):
        raise TypeError(f"simulate(schedule=) takes the list of ints that a failure has shown, not {schedule!r}")
    return found
