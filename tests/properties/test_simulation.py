"""Random handlers on simulated workers that crash, stall and lose answers: the promises hold in each schedule."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from flowgen.testing import simulate
from flowgen.testing.simulation.store import Store

from .flows import FLOWS, INVARIANTS, OUTCOMES, nothing
from .handlers import programs
from .simulated import Example, again, verdict

SCHEDULES = 25
"""Of each program."""
PROGRAMS = int(os.environ.get("FLOWGEN_PROGRAMS", "160"))
"""Random programs; `make test` takes fewer with its second Python."""
FLOW_SCHEDULES = max(1, PROGRAMS // 4)
"""Of each workflow of `flows.py`."""
NIGHTLY = int(os.environ.get("FLOWGEN_SCHEDULES", "100000"))
"""Schedules of the nightly test; FLOWGEN_SCHEDULES=2000000 is the long one."""


examples = st.builds(
    Example,
    program=programs(),
    seed=st.integers(0, 2**32),
    attempts=st.sampled_from([1, 1, 2]),
    spelling=st.integers(0, 1),
    cancels=st.booleans(),
    ahead=st.booleans(),
)


def simulate_random_programs(count: int, *, same: bool = False) -> None:
    """Raises AssertionError, which ends with all that it takes to see the same again. `same`: as every other time."""

    @settings(
        max_examples=count,
        deadline=None,
        phases=[Phase.generate],
        database=None,
        derandomize=same,
        suppress_health_check=list(HealthCheck),
    )
    @given(examples)
    def each(example: Example) -> None:
        verdict(example).many(SCHEDULES)

    try:
        each()
    except AssertionError as error:  # without the notes that would come after its last line
        raise AssertionError(str(error)) from error.__cause__


@pytest.mark.timeout(600)
def test_no_schedule_breaks_a_promise() -> None:
    simulate_random_programs(PROGRAMS, same=True)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("cancels", [False, True], ids=["", "cancelled"])
@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_no_schedule_breaks_a_promise_of_what_hangs_together(flow: Any, cancels: bool) -> None:
    simulate(
        flow, outcomes=OUTCOMES, invariant=INVARIANTS.get(flow.name, nothing), schedules=FLOW_SCHEDULES, cancels=cancels
    )


@pytest.mark.nightly
@pytest.mark.timeout(0)
def test_none_of_very_many_schedules_breaks_a_promise() -> None:
    simulate_random_programs(max(1, NIGHTLY * 9 // 10 // SCHEDULES))


@pytest.mark.nightly
@pytest.mark.timeout(0)
@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_none_of_very_many_schedules_breaks_what_hangs_together(flow: Any) -> None:
    schedules = max(1, NIGHTLY // 20 // len(FLOWS))
    for cancels in (False, True):
        simulate(
            flow,
            outcomes=OUTCOMES,
            invariant=INVARIANTS.get(flow.name, nothing),
            schedules=schedules,
            seed=1,
            cancels=cancels,
        )


def test_a_failure_ends_with_all_that_it_takes_to_see_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Store, "holds", lambda self, session: True)
    with pytest.raises(AssertionError) as failed:
        simulate_random_programs(1000)
    *_, last = str(failed.value).splitlines()
    with pytest.raises(AssertionError, match=re.escape(str(failed.value))):
        again(last)
    monkeypatch.undo()
    assert "flush" in again(last)


@pytest.mark.parametrize("line", (Path(__file__).parent / "kept.jsonl").read_text().splitlines())
def test_a_schedule_that_once_broke_a_promise_breaks_none(line: str) -> None:
    again(line)
