"""Random handlers on simulated workers that crash, stall and lose answers: the promises hold in each schedule."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from flowgen.core.context import current
from flowgen.core.definitions import Task
from flowgen.errors import PermanentError
from flowgen.testing import simulate
from flowgen.testing.simulation.plan import Plan
from flowgen.testing.simulation.verdict import Verdict

from .flows import FLOWS, OUTCOMES
from .handlers import ONCE, Program, definitions, programs, save, walk, work

SCHEDULES = 25
"""Of each program."""
PROGRAMS = 240
FLOW_SCHEDULES = 60
"""Of each workflow of `flows.py`."""
NIGHTLY = int(os.environ.get("FLOWGEN_SCHEDULES", "100000"))
"""Schedules of the nightly test; FLOWGEN_SCHEDULES=2000000 is the long one."""


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
        node.get("do") in ("now", "uuid", "random", "gather") or node.get("once") or node.get("timeout")
        for node in walk(program)
    )


def check(program: Program, seed: int, attempts: int, spelling: int, cancels: bool, schedules: int) -> None:
    plan = Plan(
        definition=definitions(attempts)[spelling],
        input=json.dumps({"spec": program}),
        outcomes={work: called, save: called},
        cancels=cancels,
        services=list,
        seed=seed,
        definitions={"child": CHILD},
    )
    Verdict(plan, None if is_steady(program) else lambda ended: None).many(schedules)


arguments = {
    "program": programs(),
    "seed": st.integers(0, 2**32),
    "attempts": st.sampled_from([1, 1, 2]),
    "spelling": st.integers(0, 1),
    "cancels": st.booleans(),
}


def sized(programs: int) -> settings:
    return settings(
        max_examples=programs,
        deadline=None,
        phases=[Phase.generate],
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.mark.timeout(600)
@sized(PROGRAMS)
@given(**arguments)
def test_no_schedule_breaks_a_promise(program: Program, seed: int, attempts: int, spelling: int, cancels: bool) -> None:
    check(program, seed, attempts, spelling, cancels, SCHEDULES)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("cancels", [False, True], ids=["", "cancelled"])
@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_no_schedule_breaks_a_promise_of_what_hangs_together(flow: Any, cancels: bool) -> None:
    simulate(flow, outcomes=OUTCOMES, invariant=lambda run: None, schedules=FLOW_SCHEDULES, cancels=cancels)


@pytest.mark.nightly
@pytest.mark.timeout(0)
@sized(max(1, NIGHTLY * 9 // 10 // SCHEDULES))
@given(**arguments)
def test_none_of_very_many_schedules_breaks_a_promise(
    program: Program, seed: int, attempts: int, spelling: int, cancels: bool
) -> None:
    check(program, seed, attempts, spelling, cancels, SCHEDULES)


@pytest.mark.nightly
@pytest.mark.timeout(0)
@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_none_of_very_many_schedules_breaks_what_hangs_together(flow: Any) -> None:
    schedules = max(1, NIGHTLY // 20 // len(FLOWS))
    for cancels in (False, True):
        simulate(flow, outcomes=OUTCOMES, invariant=lambda run: None, schedules=schedules, seed=1, cancels=cancels)
