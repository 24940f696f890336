"""How much of each workload: in full, and in a quick form that only shows that everything works."""

from __future__ import annotations

import attrs

__all__ = ["FULL", "QUICK", "Sizes"]


@attrs.frozen(kw_only=True)
class Sizes:
    rounds: int
    """Of everything, each on a fresh server."""
    pgbench_seconds: int
    singles: int
    """W1: starts one by one."""
    batches: int
    """W1: starts of a thousand."""
    drain: int
    """W2, W2b, W10: runs."""
    stepped: int
    """W3, W11: runs of ten steps at a time."""
    waves: int
    chain: int
    chains: int
    families: int
    """W4: times of ten parents, each with `brood` children."""
    brood: int
    crowd: int
    """W4: children of one parent."""
    latencies: int
    sleeps: int
    sleepers: int
    resumes: tuple[tuple[int, int], ...]
    """W7: committed steps, and how many such runs."""
    idle_seconds: float
    rest_seconds: float
    """W6, W8: before something that is idle is looked at."""
    warm_seconds: float
    """After a warm-up: the server's statistics are a second late."""
    wal_noops: int
    wal_tens: int
    finished: int
    asleep: int
    long_drain: int
    """Runs of each of four waves, of which the worker's memory is watched."""
    startups: int
    waiting: tuple[int, ...]
    """Cliffs: runs that wait."""
    repeats: int
    """Cliffs: how often a queue of few runs is drained."""
    cliff_noops: int
    cliff_tens: int
    snapshot_seconds: float
    """Cliffs: how long an old snapshot is held."""
    history: int
    large: int
    """Cliffs: runs with payloads of 1 MiB."""


FULL = Sizes(
    rounds=3, pgbench_seconds=3, singles=5000, batches=100, drain=100_000, stepped=2000, waves=5, chain=500, chains=5,
    families=5, brood=100, crowd=10_000, latencies=400, sleeps=1000, sleepers=100_000,
    resumes=((1000, 15), (100_000, 3)), idle_seconds=20, rest_seconds=3, warm_seconds=1.1,
    wal_noops=20_000, wal_tens=2000, finished=1_000_000,
    asleep=100_000, long_drain=250_000, startups=5, waiting=(1, 100, 10_000, 100_000), repeats=20, cliff_noops=20_000,
    cliff_tens=4000, snapshot_seconds=300, history=100_000, large=50,
)  # fmt: skip
QUICK = Sizes(
    rounds=1, pgbench_seconds=1, singles=300, batches=5, drain=3000, stepped=300, waves=1, chain=100, chains=1,
    families=1, brood=20, crowd=300, latencies=15, sleeps=100, sleepers=1000,
    resumes=((1000, 1), (100_000, 1)), idle_seconds=2, rest_seconds=0.5, warm_seconds=0,
    wal_noops=1000, wal_tens=200, finished=10_000,
    asleep=1000, long_drain=1000, startups=1, waiting=(1, 100), repeats=2, cliff_noops=500,
    cliff_tens=100, snapshot_seconds=1, history=2000, large=4,
)  # fmt: skip
