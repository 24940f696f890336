"""The workloads' definitions, and the worker process that runs them: `python -m benchmarks.workloads URL`.

A function of a step returns an int and does nothing else, so what is measured is flowgen and PostgreSQL. The process is
`flowgen.run` with its defaults; nothing here knows that it is being measured.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import flowgen
from flowgen import Flow, Gather, Invoke, Sleep, Step, task, workflow

STEPS = 10
"""Steps of `ten` and of its relatives."""


@task
def one(n: int) -> int:
    return n + 1


@task
async def one_async(n: int) -> int:
    return n + 1


@task
def text_of(size: int) -> str:
    return "x" * size


@task
def moment() -> int:
    """When it was called, by the clock that all processes of a machine share."""
    return time.perf_counter_ns()


@workflow
def noop(n: int) -> Flow[int]:
    """A run without a step: claimed, completed."""
    yield from ()
    return n


@workflow
def ten(n: int) -> Flow[int]:
    """Ten steps, each committed before the next one begins."""
    for _ in range(STEPS):
        n = yield from Step(one, n)
    return n


@workflow
def ten_async(n: int) -> Flow[int]:
    for _ in range(STEPS):
        n = yield from Step(one_async, n)
    return n


@workflow
def chain(n: int) -> Flow[int]:
    """One run of `n` steps."""
    at = 0
    for _ in range(n):
        at = yield from Step(one, at)
    return at


@workflow
def parent(n: int) -> Flow[int]:
    """`n` children at once."""
    done = yield from Gather(*[Invoke(noop, each) for each in range(n)])
    return len(done)


@workflow
def sleeper(seconds: float) -> Flow[int]:
    yield Sleep(seconds)
    return 1


@workflow
def resumed(n: int) -> Flow[int]:
    """`n` steps of one and the same call, then one that tells when it was reached."""
    for _ in range(n):
        yield from Step(one, 1)
    return (yield from Step(moment))


@workflow
def swallow(data: str) -> Flow[int]:
    """A run with a large input."""
    yield from ()
    return len(data)


@workflow
def ten_large(n: int) -> Flow[int]:
    """Ten steps with results of `n` characters."""
    total = 0
    for _ in range(STEPS):
        total += len((yield from Step(text_of, n)))
    return total


def copies(count: int) -> list[tuple[str, str]]:
    """Names of `count` definitions in pairs: a copy of `noop` and one of `ten`."""
    return [(f"noop_{at}", f"ten_{at}") for at in range(count // 2)]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workloads")
    parser.add_argument("url")
    parser.add_argument("--concurrency", type=int, default=None)
    parser.add_argument("--definitions", type=int, default=0, help="copies of noop and ten to define besides")
    parser.add_argument("--profile", type=Path, default=None, help="where to leave a profile")
    given = parser.parse_args()
    if given.profile is not None:
        from benchmarks.profile import sample_into  # it brings the whole measurement along

        sample_into(given.profile)
    for plain, stepped in copies(given.definitions):
        workflow(name=plain)(noop.fn)
        workflow(name=stepped)(ten.fn)
    flowgen.run(given.url, concurrency=given.concurrency)


if __name__ == "__main__":
    main()
