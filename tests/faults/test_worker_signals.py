"""Signals to one process, to a supervisor and to a whole group: an ordered stop, once, whoever says it how often."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

import flowgen
from flowgen.client.sync import Client
from tests.e2e.processes import Process, Program
from tests.waiting import eventually

SOURCE = """
import logging
logging.basicConfig(stream=sys.stdout)

def step(n):
    note(f"step {n}")
    gate("go", 60)
    note(f"done {n}")
    return n

@workflow
def one(n: int) -> Flow[int]:
    current().logger.warning("said by %s", n)
    return (yield from Step(step, n))
"""
LONG = "Settings(lease=60, poll=0.1, grace=30)"


@pytest.fixture(autouse=True)
def hangups_are_heard() -> Iterator[None]:
    """Under nohup they are ignored, and a worker that inherits that ignores them too."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def to_group(process: Process, number: int) -> None:
    os.killpg(process.pid, number)


@pytest.mark.fault("F20")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_whole_group_lets_steps_end_and_a_second_one_does_not(
    program: Program, flowgen_client: Client, number: int
) -> None:
    """As a service manager sends it, or a terminal: to the supervisor and to each of its processes."""
    program.write(SOURCE, settings=LONG, more="processes=2, concurrency=2")
    first = program.start(workers=2, group=True)
    run = flowgen_client.start(flowgen.call("one", n=0))
    program.noted("step 0")
    to_group(first, number)
    eventually(lambda: len(first.children()) == 1)  # who holds nothing has ended
    assert first.popen.poll() is None
    program.open("go")
    assert first.ended() == 0
    assert program.notes() == ["step 0", "done 0"]
    assert [item.kind for item in flowgen_client.history(run.id)] == ["outcome"]
    assert run.refresh().recoveries == 0


@pytest.mark.fault("F20")
def test_a_second_signal_to_the_whole_group_ends_it_at_once_and_charges_nothing(
    program: Program, flowgen_client: Client
) -> None:
    program.write(SOURCE, settings=LONG, more="processes=2, concurrency=2")
    process = program.start(workers=2, group=True)
    run = flowgen_client.start(flowgen.call("one", n=0))
    program.noted("step 0")

    to_group(process, signal.SIGINT)
    eventually(lambda: len(process.children()) == 1)  # who holds nothing has ended: the first was heard
    assert process.popen.poll() is None
    to_group(process, signal.SIGINT)
    assert process.ended() == 0
    assert run.refresh().status == "pending"
    assert run.refresh().recoveries == 0
    assert program.notes() == ["step 0"]


@pytest.mark.fault("F20")
def test_a_worker_whose_output_nobody_reads_goes_on_and_stops_in_order(
    program: Program, flowgen_client: Client
) -> None:
    program.write(SOURCE, settings=LONG)
    reading, writing = os.pipe()
    process = program.start(stdout=writing)
    os.close(writing)
    os.close(reading)
    program.open("go")
    assert [flowgen_client.start(flowgen.call("one", n=n)).result(timeout=20) for n in range(3)] == [0, 1, 2]
    process.signal(signal.SIGHUP)
    assert process.ended() in (0, 120), "120: the interpreter could not flush its output at its end"
    assert program.notes().count("done 0") == 1
