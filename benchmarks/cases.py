"""The workloads W1 to W11: each takes the stage and gives its numbers by the keys of `goals`, and what it cost."""

from __future__ import annotations

import random
import re
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

from benchmarks import bulk, profile, startup
from benchmarks.measure import BenchmarkError, Cost, Outcome, Stage, Workers
from benchmarks.processes import memory_of, sampled
from benchmarks.sizes import Sizes
from benchmarks.workloads import STEPS, noop
from flowgen.postgres import embedded

__all__ = ["CASES", "drained", "percentile", "stepped"]

_MB = 1_000_000


Case: TypeAlias = Callable[[Stage, Sizes], Outcome]


def percentile(values: Sequence[float], part: float) -> float:
    """The nearest-rank percentile; `part` from 0 to 1."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def drained(stage: Stage, count: int, processes: int = 1) -> tuple[float, Cost]:
    """W2's measure: no-op runs per second."""
    with stage.workers(processes) as workers, stage.billed(workers, count) as bill:
        seconds = stage.drain(workers, "noop", count)
    return count / seconds, bill.cost()


def stepped(stage: Stage, name: str, count: int, waves: int) -> tuple[float, Cost]:
    """W3's measure: steps per second."""
    with stage.workers() as workers, stage.billed(workers, count * waves) as bill:
        seconds = sum(stage.drain(workers, name, count) for _ in range(waves))
    return count * waves * STEPS / seconds, bill.cost()


def w1(stage: Stage, sizes: Sizes) -> Outcome:
    begun = time.perf_counter()
    for at in range(sizes.singles):
        stage.client.start(noop, at)
    between = time.perf_counter()
    for _ in range(sizes.batches):
        stage.client.start_many([noop.call(at) for at in range(1000)])
    ended = time.perf_counter()
    return Outcome({"w1_one": sizes.singles / (between - begun), "w1_many": sizes.batches * 1000 / (ended - between)})


def w2(stage: Stage, sizes: Sizes) -> Outcome:
    rate, cost = drained(stage, sizes.drain)
    return Outcome({"w2": rate}, cost)


def w2b(stage: Stage, sizes: Sizes) -> Outcome:
    rate, cost = drained(stage, sizes.drain, processes=2)
    return Outcome({"w2b": rate}, cost)


def w3(stage: Stage, sizes: Sizes) -> Outcome:
    rate, cost = stepped(stage, "ten", sizes.stepped, sizes.waves)
    return Outcome({"w3": rate}, cost)


def w3s(stage: Stage, sizes: Sizes) -> Outcome:
    query = "SELECT extract(epoch FROM finished_at - started_at)::float8 FROM flowgen.run WHERE run_id = %s"
    each: list[float] = []
    with stage.workers() as workers, stage.billed(workers, sizes.chains) as bill:
        for _ in range(sizes.chains):
            stage.drain(workers, "chain", 1, input=f'{{"n":{sizes.chain}}}')
            made = stage.expected[-1]
            each.append(float(stage.one(query, [made])[0]) / sizes.chain)
    return Outcome({"w3s": statistics.median(each) * 1000}, bill.cost())


def w4(stage: Stage, sizes: Sizes) -> Outcome:
    children = sizes.families * 10 * sizes.brood
    with stage.workers() as workers, stage.billed(workers, children + sizes.crowd) as bill:
        many = sum(stage.drain(workers, "parent", 10, input=f'{{"n":{sizes.brood}}}') for _ in range(sizes.families))
        one = stage.drain(workers, "parent", 1, input=f'{{"n":{sizes.crowd}}}')
    return Outcome({"w4_many": children / many, "w4_one": sizes.crowd / one}, bill.cost())


def w5(stage: Stage, sizes: Sizes) -> Outcome:
    seen: list[float] = []
    with stage.workers() as workers:
        stage.wait_idle(workers)
        with stage.billed(workers, sizes.latencies) as bill:
            for at in range(sizes.latencies):
                time.sleep(random.uniform(0.01, 0.03))
                begun = time.perf_counter()
                stage.client.start(noop, at).result(timeout=30)
                seen.append((time.perf_counter() - begun) * 1000)
    return Outcome({"w5_p50": percentile(seen, 0.5), "w5_p99": percentile(seen, 0.99)}, bill.cost())


def w6(stage: Stage, sizes: Sizes) -> Outcome:
    waiting = "SELECT count(*) FROM flowgen.run WHERE due_at IS NOT NULL AND status IN (1, 4)"
    with stage.workers() as workers, stage.billed(workers, sizes.sleeps) as bill:
        late = stage.drain(workers, "sleeper", sizes.sleeps, input='{"seconds":1}') - 1
    with stage.workers() as workers:
        stage.drain(workers, "noop", sizes.sleepers // 5)
        connections, before = len(workers.backends()), _settled_memory(workers, sizes.rest_seconds)
        stage.wait_idle(workers)
        stage.fill("sleeper", sizes.sleepers, '{"seconds":3600}')
        stage.hint()
        while stage.one(waiting)[0] < sizes.sleepers:
            workers.check()
            time.sleep(0.1)
        grown = _settled_memory(workers, sizes.rest_seconds) - before
        more = len(workers.backends()) - connections
    with stage.workers(warm=False) as workers:
        beside = _settled_memory(workers, sizes.rest_seconds)
    stage.clear()
    with stage.workers(warm=False) as workers:
        alone = _settled_memory(workers, sizes.rest_seconds)
    values = {
        "w6_late": late,
        "w6_connections": max(0, more),
        "w6_memory": grown / _MB,
        "w6_memory_fresh": (beside - alone) / _MB,
    }
    return Outcome(values, bill.cost())


def _settled_memory(workers: Workers, rest: float) -> int:
    """Resident bytes after some rest."""
    time.sleep(rest)
    return sum(memory_of(pid) for pid in workers.pids)


def w7(stage: Stage, sizes: Sizes) -> Outcome:
    values: dict[str, float] = {}
    with stage.workers(warm=False) as workers:
        [template] = stage.fill("resumed", 1)
        stage.hint()
        stage.wait_empty(workers)
        for steps, times in sizes.resumes:
            took: list[float] = []
            for _ in range(times):
                made = bulk.interrupted(stage, template, steps)
                stage.wait_idle(workers)
                stage.wake(made)
                begun = time.perf_counter_ns()
                stage.hint()
                stage.wait_empty(workers)
                stage.expected.append(made)
                reached = stage.one("SELECT output::text::bigint FROM flowgen.run WHERE run_id = %s", [made])[0]
                took.append((reached - begun) / 1e6)
            values[f"w7_{steps}"] = statistics.median(took)
    return Outcome(values)


def w8(stage: Stage, sizes: Sizes) -> Outcome:
    stage.conn.execute("ALTER ROLE CURRENT_USER SET log_statement = 'all'")
    log = embedded.status(stage.folder / ".flowgen").log
    try:
        with stage.workers(warm=False) as workers:
            time.sleep(sizes.rest_seconds)
            at = log.stat().st_size
            time.sleep(sizes.idle_seconds)
            with log.open("rb") as file:
                file.seek(at)
                said = file.read().decode(errors="replace")
            own = workers.backends()
    finally:
        stage.conn.execute("ALTER ROLE CURRENT_USER RESET log_statement")
    seen = [int(pid) for pid in re.findall(r"\[(\d+)\] LOG: +(?:statement|execute)", said)]
    return Outcome({"w8_queries": sum(pid in own for pid in seen) / sizes.idle_seconds, "w8_connections": len(own)})


def w9(stage: Stage, sizes: Sizes) -> Outcome:
    values: dict[str, float] = {}
    for key, name, count in (("w9_noop", "noop", sizes.wal_noops), ("w9_ten", "ten", sizes.wal_tens)):
        with stage.workers() as workers, stage.billed(workers, count) as bill:
            stage.drain(workers, name, count)
        values[key] = bill.wal / count
    return Outcome(values, bill.cost())


def w10(stage: Stage, sizes: Sizes) -> Outcome:
    bulk.finished(stage, sizes.finished)
    bulk.asleep(stage, sizes.asleep)
    with bulk.old_snapshot(stage), stage.workers() as workers, stage.billed(workers, sizes.drain) as bill:
        seconds = stage.drain(workers, "noop", sizes.drain)
    return Outcome({"w10_rate": sizes.drain / seconds}, bill.cost())


def w11(stage: Stage, sizes: Sizes) -> Outcome:
    rate, cost = stepped(stage, "ten_async", sizes.stepped, sizes.waves)
    return Outcome({"w11": rate}, cost)


def memory(stage: Stage, sizes: Sizes) -> Outcome:
    points: list[tuple[float, float]] = []
    peak = 0
    with stage.workers() as workers:
        for wave in range(4):
            with sampled(workers.pids) as samples:
                seconds = stage.drain(workers, "noop", sizes.long_drain)
            peak = max(peak, samples.peak)
            begun = samples.points[-1][0] - seconds  # before that the runs were being started
            points += [
                ((wave + (at - begun) / seconds) * sizes.long_drain, size) for at, size in samples.points if at >= begun
            ]
            stage.clear()
    later = [(runs, size) for runs, size in points if runs >= 2 * sizes.long_drain]
    if len({runs for runs, _ in later}) < 2:
        raise BenchmarkError("too few samples of the worker's memory")
    slope = statistics.linear_regression([runs for runs, _ in later], [size for _, size in later]).slope
    return Outcome({"memory_slope": slope, "memory_peak": peak / _MB})


CASES: dict[str, Case] = {
    "W1": w1,
    "W2": w2,
    "W2b": w2b,
    "W3": w3,
    "W3s": w3s,
    "W4": w4,
    "W5": w5,
    "W6": w6,
    "W7": w7,
    "W8": w8,
    "W9": w9,
    "W10": w10,
    "W11": w11,
    "memory": memory,
    "start-up": startup.startup,
    "profile": profile.profile,
}
