"""A process dies, stands still, loses its connections or an answer at every named moment, and in a recovery.

The journey passes each moment; afterwards the run has its result, every outcome was recorded once, the Transaction took
effect once, each tick has one run, the history replays, and nothing is owned by anybody.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flowgen import App, Flow, RunQuery, Step, failpoints
from flowgen.client.sync import Client
from flowgen.failpoints import POINTS, evicting
from flowgen.testing.plugin import _created, _url_of
from flowgen.testing.workers import Workers
from tests.faults.enumeration import Case, Forks, carry_out
from tests.waiting import eventually

AT_ONCE = 10
STOPPED = 3500
"""Milliseconds: beyond the lease."""
ACTIONS = ("kill", f"stop:{STOPPED}", "close", "lostack", "raise")
DIED = "step.before_body=kill"

FIRST = {
    "checkpoint.release": "step.before_body=term",
    "shutdown.before_release": "step.before_body=term",
    "shutdown.after_release": "step.before_body=term",
    "reconnect.before": "step.before_insert=close",
}
"""What brings a worker to a moment that the journey alone does not have."""
RUNNING = sorted(POINTS - {"migrate.mid"})
SENT = frozenset({"handler.before_send", "handler.after_send"})
"""Of a handler that goes on with what came; one that is given back after every command is begun anew instead."""
PURE = SENT | {"handler.start"}
ANSWERS = frozenset({"lostack", "raise"})
"""These are of the database, which nobody asks at a moment that is pure."""

BODIES = {
    ("step.before_body", "kill"): 1,
    ("step.after_body", "kill"): 2,
    ("step.before_insert", "kill"): 2,
    ("step.before_commit", "kill"): 2,
    ("step.after_commit", "kill"): 1,
    ("step.before_insert", "lostack"): 1,
    ("step.before_commit", "lostack"): 1,
    ("step.after_commit", "lostack"): 1,
    ("step.after_commit", "stop"): 1,
}
"""How often the first step is called in all."""


def armed(point: str, action: str) -> str:
    return ", ".join(filter(None, [FIRST.get(point), f"{point}={action}"]))


def case_of(point: str, action: str) -> Case:
    return Case([*after_a_death(point), armed(point, action)])


def after_a_death(point: str) -> list[str]:
    return [DIED] if point.startswith("sweep.") else []


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    made = Forks()
    yield made
    made.close()


@pytest.fixture
def all_of(
    forks: Forks, flowgen_server_url: str, flowgen_database: str, tmp_path: Path
) -> Callable[[Sequence[Case]], list[Case]]:
    """Carry cases out, some at a time, each on a database of its own."""

    def one(place: int, case: Case) -> Case:
        name = f"{flowgen_database.rpartition('/')[2].partition('?')[0]}_{place}"
        template = flowgen_database.rpartition("/")[2].partition("?")[0]
        with _created(flowgen_server_url, name, template=template):
            return carry_out(case, forks, _url_of(flowgen_server_url, name), tmp_path / str(place))

    def carried_out(cases: Sequence[Case]) -> list[Case]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(one, range(len(cases)), cases))

    return carried_out


def judged(cases: Sequence[Case]) -> None:
    wrong = [f"{' then '.join(case.workers)}:\n  " + "\n  ".join(case.problems) for case in cases if case.problems]
    assert not wrong, "\n".join(wrong)


@pytest.mark.timeout(300)
@pytest.mark.fault("F1", "F2", "F3", "F4", "F5", "F6", "F7", "F8", "F9", "F63")
@pytest.mark.parametrize("action", ACTIONS)
def test_nothing_is_lost_and_nothing_is_done_twice_at_any_moment(
    all_of: Callable[[Sequence[Case]], list[Case]], action: str
) -> None:
    cases = all_of([case_of(point, action) for point in RUNNING if action not in ANSWERS or point not in PURE])
    judged(cases)
    for case in cases:
        wanted = BODIES.get((case.points[-1][0], action.partition(":")[0]))
        assert wanted is None or case.bodies["add"] - 1 == wanted, (case.workers, case.bodies)  # one is the child's
        assert case.bodies["pay"] <= 1, case.workers


def pairs() -> list[Case]:
    moments = sorted(set(RUNNING) - (SENT if evicting() else set()))
    return [
        Case([*after_a_death(one), armed(one, "kill"), armed(other, "kill")]) for one in moments for other in moments
    ]


@pytest.mark.timeout(300)
@pytest.mark.fault("F10")
def test_a_crash_inside_of_a_recovery_is_recovered_from(all_of: Callable[[Sequence[Case]], list[Case]]) -> None:
    judged(all_of(random.Random(10).sample([case for case in pairs() if may_follow(case)], 12)))


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.fault("F10")
def test_every_crash_inside_of_every_recovery_is_recovered_from(
    all_of: Callable[[Sequence[Case]], list[Case]],
) -> None:
    """More than a thousand cases, each of about a second of a core."""
    judged(all_of([case for case in pairs() if may_follow(case)]))


def may_follow(case: Case) -> bool:
    """Whether the second worker still comes to its moment after the first one died at its own."""
    (one, _), (other, _) = case.points[-2:]
    after = RANK.get(one, 0)
    return RANK.get(other, 99) >= after


RANK = {
    "step.after_commit": 1, "handler.before_send": 1, "handler.after_send": 1,
    "tx_step.before_commit": 1, "tx_step.after_commit": 2, "schedule.before": 2, "schedule.after_commit": 3,
    "sleep.before_commit": 3, "sleep.after_commit": 3, "invoke.after_child_insert": 4, "invoke.before_commit": 4,
    "invoke.after_commit": 5, "child.before_parent_wake": 5, "complete.before_commit": 5, "complete.after_commit": 6,
}  # fmt: skip
"""How far the journey has come when it passes a moment for the first time; what is not here comes again and again."""


@pytest.mark.parametrize("moment", sorted(PURE - SENT if evicting() else PURE))
def test_a_run_that_flowgen_fails_to_drive_is_parked_and_its_neighbours_go_on(
    flowgen_client: Client, flowgen_worker: Workers, caplog: pytest.LogCaptureFixture, moment: str
) -> None:
    app = App()

    @app.workflow
    def three(n: int) -> Flow[int]:
        for k in range(3):
            n = yield from Step(add, n, k)
        return n

    runs = flowgen_client.start_many([three.call(n) for n in range(5)])
    failpoints.arm(f"{moment}:3=raise")
    try:
        flowgen_worker(app)
        eventually(lambda: flowgen_client.count(RunQuery(status=["completed"])) == 4)
    finally:
        failpoints.arm("")
    (parked,) = [run for run in runs if flowgen_client.get(run.id).status == "parked"]
    why = flowgen_client.why(parked.id)
    assert "flowgen itself failed while it drove this run" in str(why)
    assert f"the failpoint {moment} broke it off" in caplog.text
    flowgen_client.resume(parked.id)
    assert parked.result(timeout=10) == parked.input["n"] + 3


def add(a: int, b: int) -> int:
    return a + b
