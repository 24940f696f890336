"""Graceful stops: nothing runs twice, nothing waits for a lease, and the second signal is the last."""

from __future__ import annotations

import signal
import time

import pytest

import flowgen
from flowgen.client.queries import RunQuery
from flowgen.client.sync import Client
from tests.e2e.processes import Program
from tests.waiting import eventually

STEPS = """
def step(n):
    note(f"step {n}")
    gate("go", 60)
    note(f"done {n}")
    return n

def after(n):
    note(f"after {n} by {os.getpid()}")
    return n

@workflow
def two(n: int) -> Flow[int]:
    yield Step(step, n)
    return (yield from Step(after, n))
"""
LONG_LEASE = "Settings(lease=60, poll=0.1, grace=20)"


@pytest.mark.fault("F19")
def test_sigterm_lets_steps_end_and_hands_their_runs_over_at_once(program: Program, flowgen_client: Client) -> None:
    program.write(STEPS, settings=LONG_LEASE, more="concurrency=20")
    first = program.start()
    runs = flowgen_client.start_many([flowgen.call("two", n=n) for n in range(20)])
    for n in range(20):
        program.noted(f"step {n}")
    second = program.start()
    first.signal(signal.SIGTERM)
    program.open("go")
    assert first.ended() == 0
    stopped = time.monotonic()
    assert [run.result(timeout=20) for run in runs] == [*range(20)]
    assert time.monotonic() - stopped < 1
    notes = program.notes()
    for n in range(20):
        assert notes.count(f"step {n}") == 1
        assert notes.count(f"after {n} by {second.pid}") + notes.count(f"after {n} by {first.pid}") == 1
    assert {run.refresh().recoveries for run in runs} == {0}


@pytest.mark.fault("F19")
def test_a_stopping_worker_claims_nothing_more(program: Program, flowgen_client: Client) -> None:
    program.write(STEPS, settings=LONG_LEASE)
    first = program.start()
    flowgen_client.start(flowgen.call("two", n=0))
    program.noted("step 0")
    first.signal(signal.SIGTERM)
    eventually(lambda: flowgen_client.count(RunQuery(status="running")) == 1)
    late = flowgen_client.start(flowgen.call("two", n=1))
    program.open("go")
    assert first.ended() == 0
    assert late.refresh().status == "pending"
    assert "step 1" not in program.notes()


@pytest.mark.fault("F20")
def test_a_second_sigterm_ends_it_at_once_and_no_attempt_is_charged(program: Program, flowgen_client: Client) -> None:
    program.write(STEPS, settings=LONG_LEASE)
    first = program.start()
    run = flowgen_client.start(flowgen.call("two", n=0))
    program.noted("step 0")
    began = time.monotonic()

    def signalled_again() -> bool:
        # two signals that come before one is handled are one
        first.signal(signal.SIGTERM)
        return first.popen.poll() is not None

    eventually(signalled_again, every=0.3)
    assert first.ended(10) == 0
    assert time.monotonic() - began < 5
    assert run.refresh().status == "pending"
    program.open("go")
    program.start()
    assert run.result(timeout=10) == 0
    assert program.notes().count("step 0") == 2
    assert [item.kind for item in flowgen_client.history(run.id)] == ["outcome", "outcome"]
    assert run.refresh().recoveries == 0


def test_the_end_of_the_grace_releases_what_is_left(program: Program, flowgen_client: Client) -> None:
    program.write(STEPS, settings="Settings(lease=60, poll=0.1, grace=0.5)")
    first = program.start()
    run = flowgen_client.start(flowgen.call("two", n=0))
    program.noted("step 0")
    first.signal(signal.SIGTERM)
    assert first.ended(10) == 0
    program.open("go")
    program.start()
    assert run.result(timeout=5) == 0


@pytest.mark.fault("F20")
def test_ctrl_c_says_what_it_waits_for_and_how_to_force(program: Program, flowgen_client: Client) -> None:
    program.write(STEPS, settings=LONG_LEASE)
    process = program.start()
    flowgen_client.start(flowgen.call("two", n=0))
    program.noted("step 0")
    process.signal(signal.SIGINT)
    eventually(lambda: "Ctrl-C again" in program.errors())
    assert "step" in program.errors()
    program.open("go")
    assert process.ended() == 0
    assert "Traceback" not in program.errors()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_drain_ends_when_nothing_is_due(program: Program, flowgen_client: Client, processes: int) -> None:
    program.write(
        """
def add(n):
    return n + 1

@workflow
def some(n: int) -> Flow[int]:
    for _ in range(5):
        n = yield from Step(add, n)
    return n

@workflow
def later() -> Flow[None]:
    yield Sleep(hours=1)
""",
        more=f"drain=True, processes={processes}",
    )
    runs = flowgen_client.start_many([flowgen.call("some", n=n) for n in range(200)])
    waiting = flowgen_client.start(flowgen.call("later"))
    process = program.start(workers=0)
    assert process.ended(30) == 0, program.errors()
    assert [run.refresh().output for run in runs] == [n + 5 for n in range(200)]
    assert waiting.refresh().status == "waiting"
