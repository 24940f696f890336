"""What slows a drain down: W2 and W3 once plainly, then each under one burden.

A burden is rows in the tables, a session beside the workers, or another shape of the runs themselves. Every case
stands on empty tables with a worker of its own; its rate is per run for W2 and per step for W3.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import attrs

from benchmarks import bulk
from benchmarks.measure import Stage, Workers
from benchmarks.report import PLAIN
from benchmarks.sizes import Sizes
from benchmarks.workloads import STEPS, copies

__all__ = ["cliffs"]

MIB = 1024 * 1024
SMALL = 1000
"""A queue shorter than this is drained several times."""
QUEUES = 50
DEFINITIONS = 200

Rates: TypeAlias = dict[str, float]
Burden: TypeAlias = Callable[[Stage, Sizes], contextlib.AbstractContextManager[object]]


@attrs.frozen
class Case:
    """A drain under one burden."""

    name: str
    noops: int
    tens: int
    burden: Burden | None = None
    noop: Any = "noop"
    ten: Any = "ten"
    noop_filled: dict[str, Any] = attrs.field(factory=dict)
    ten_filled: dict[str, Any] = attrs.field(factory=dict)
    definitions: int = 0
    long: bool = False
    """A run with a long history is resumed at the same time."""
    churn: bool = False
    """Drain for `Sizes.snapshot_seconds` before, so that the tables are full of what cannot be removed."""


def _finished(stage: Stage, sizes: Sizes) -> contextlib.AbstractContextManager[object]:
    bulk.finished(stage, sizes.finished)
    return contextlib.nullcontext()


def _asleep(stage: Stage, sizes: Sizes) -> contextlib.AbstractContextManager[object]:
    bulk.asleep(stage, sizes.asleep)
    return contextlib.nullcontext()


def _snapshot(stage: Stage, _: Sizes) -> contextlib.AbstractContextManager[object]:
    return bulk.old_snapshot(stage)


def _cases(sizes: Sizes) -> Iterator[Case]:
    noops, tens = sizes.cliff_noops, sizes.cliff_tens
    yield Case(PLAIN, noops, tens)
    for count in sizes.waiting:
        yield Case(f"{count:,} runs wait", count, count)
    yield Case(f"{sizes.finished:,} finished runs", noops, tens, _finished)
    yield Case(f"{sizes.asleep:,} sleeping runs", noops, tens, _asleep)
    yield Case(f"a snapshot that is held for {sizes.snapshot_seconds:g} s", noops, tens, _snapshot, churn=True)
    yield Case(f"a history of {sizes.history:,} entries is resumed meanwhile", noops, tens, long=True)
    yield Case(
        "payloads of 1 MiB", sizes.large, max(1, sizes.large // 10), noop="swallow", ten="ten_large",
        noop_filled={"input": '{"data":"' + "x" * MIB + '"}'}, ten_filled={"input": f'{{"n":{MIB}}}'},
    )  # fmt: skip
    queues = {"queues": QUEUES}
    yield Case(f"{QUEUES} queues", noops, tens, noop_filled=queues, ten_filled=queues)
    plain, stepped = zip(*copies(DEFINITIONS), strict=True)
    yield Case(f"{DEFINITIONS} definitions", noops, tens, noop=plain, ten=stepped, definitions=DEFINITIONS)


def _rate(stage: Stage, workers: Workers, names: Any, count: int, filled: dict[str, Any], repeats: int) -> float:
    """Runs per second; short queues several times."""
    once = count >= SMALL or "beside" in filled
    times = 1 if once else min(repeats, -(-SMALL // count))
    return count * times / sum(stage.drain(workers, names, count, **filled) for _ in range(times))


def _measured(stage: Stage, sizes: Sizes, case: Case) -> Rates:
    if case.churn:
        return _churned(stage, sizes, case)
    found: Rates = {}
    halves = (("w2", case.noop, case.noops, case.noop_filled, 1), ("w3", case.ten, case.tens, case.ten_filled, STEPS))
    for key, names, count, filled, each in halves:
        stage.clear()
        burden = case.burden(stage, sizes) if case.burden else contextlib.nullcontext()
        with burden, stage.workers(definitions=case.definitions) as workers:
            if case.long:
                [template] = stage.fill("resumed", 1)
                stage.hint()
                stage.wait_empty(workers)
                filled = {**filled, "beside": bulk.interrupted(stage, template, sizes.history)}
            found[key] = _rate(stage, workers, names, count, filled, sizes.repeats) * each
    return found


def _churned(stage: Stage, sizes: Sizes, case: Case) -> Rates:
    """W2 and W3 under one burden that has lasted, and been worked under, for some time."""
    stage.clear()
    assert case.burden is not None
    with case.burden(stage, sizes), stage.workers() as workers:
        until = time.perf_counter() + sizes.snapshot_seconds
        while time.perf_counter() < until:
            stage.drain(workers, case.noop, case.noops)
            stage.drain(workers, case.ten, case.tens)
        noops = case.noops / stage.drain(workers, case.noop, case.noops)
        return {"w2": noops, "w3": STEPS * case.tens / stage.drain(workers, case.ten, case.tens)}


def cliffs(stage: Stage, sizes: Sizes, say: Callable[[str], None]) -> dict[str, Rates]:
    """All cases once: W2's and W3's rate of each."""
    found: dict[str, Rates] = {}
    for case in _cases(sizes):
        found[case.name] = _measured(stage, sizes, case)
        say(f"{case.name}: {found[case.name]['w2']:,.0f} runs/s, {found[case.name]['w3']:,.0f} steps/s")
    return found
