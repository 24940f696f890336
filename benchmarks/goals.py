"""What is measured, with the floors and aims that it is held against.

A goal is one number of a workload. `limit` names pgbench's number that it stands beside; the ratio is 1 where flowgen
is as fast as PostgreSQL alone.
"""

from __future__ import annotations

import attrs

__all__ = ["GOALS", "Goal", "definition_of"]


@attrs.frozen
class Goal:
    key: str
    workload: str
    what: str
    unit: str
    floor: float | None = None
    aim: float | None = None
    lower: bool = False
    """Less is better."""
    limit: str | None = None
    """Of pgbench: `insert_one` and `insert_500` and `claim_complete` per second, `insert_ms` per insert."""

    def score(self, value: float) -> float | None:
        """How many times as good as the floor; None without one, or where it cannot be divided."""
        if self.floor is None or value <= 0 or self.floor <= 0:
            return None
        return self.floor / value if self.lower else value / self.floor

    def verdict(self, value: float) -> str:
        """`aim`, `floor` or `below`; nothing for a number without a floor."""
        if self.floor is None:
            return ""

        def meets(bound: float) -> bool:
            return value <= bound if self.lower else value >= bound

        if self.aim is not None and meets(self.aim):
            return "aim"
        return "floor" if meets(self.floor) else "below"


GOALS = (
    Goal("w1_one", "W1", "starts, one by one", "/s", 1900, 2300, limit="insert_one"),
    Goal("w1_many", "W1", "starts, 1,000 at a time", "/s", 60_000, 100_000, limit="insert_500"),
    Goal("w2", "W2", "no-op workflows drained", "/s", 25_000, 50_000, limit="claim_complete"),
    Goal("w2b", "W2b", "the same, two processes", "/s", 25_000, 50_000, limit="claim_complete"),
    Goal("w3", "W3", "steps of 10-step workflows", "/s", 50_000, 100_000, limit="insert_500"),
    Goal("w3s", "W3s", "a step of one long run", "ms", 0.50, 0.35, lower=True, limit="insert_ms"),
    Goal("w4_many", "W4", "children of ten parents", "/s", 10_000, 20_000, limit="claim_complete"),
    Goal("w4_one", "W4", "children of one parent", "/s", 10_000, 20_000, limit="claim_complete"),
    Goal("w5_p50", "W5", "start to result, p50", "ms", 2.5, 1.5, lower=True, limit="insert_ms"),
    Goal("w5_p99", "W5", "start to result, p99", "ms", 6, 3, lower=True, limit="insert_ms"),
    Goal("w6_late", "W6", "sleeps of 1 s: beyond 1 s", "s", 0.2, 0.1, lower=True),
    Goal("w6_connections", "W6", "sleepers: connections beyond idle", "", 0, 0, lower=True),
    Goal("w6_memory", "W6", "sleepers: memory beyond idle", "MB", 10, 1, lower=True),
    Goal("w6_memory_fresh", "W6", "the same, worker started beside them", "MB", 10, 1, lower=True),
    Goal("w7_1000", "W7", "resume after 1,000 steps", "ms", 8, 3, lower=True),
    Goal("w7_100000", "W7", "resume after 100,000 steps", "ms", 800, 300, lower=True),
    Goal("w8_queries", "W8", "idle: statements", "/s", 5, 2, lower=True),
    Goal("w8_connections", "W8", "idle: connections", "", 4, 3, lower=True),
    Goal("w9_noop", "W9", "WAL of a no-op run", "bytes", 1000, 750, lower=True),
    Goal("w9_ten", "W9", "WAL of a 10-step run", "bytes", 4000, 3000, lower=True),
    Goal("w10", "W10", "W2 in a full database, of W2", "x", 0.6, 0.8),
    Goal("w11", "W11", "steps of async functions", "/s", 40_000, 80_000, limit="insert_500"),
    Goal("memory_slope", "memory", "growth of a busy worker, per run", "bytes"),
    Goal("memory_peak", "memory", "peak of a busy worker", "MB"),
    Goal("start_import", "start-up", "`import flowgen`", "ms"),
    Goal("start_worker", "start-up", "worker ready, migrated database", "ms"),
    Goal("start_help", "start-up", "`flowgen --help`", "ms"),
    *(
        Goal(f"profile_{key}_{room}", "profile", f"{name}: part of a worker's CPU time in {room}", "%")
        for key, name in (("w2", "W2"), ("w3", "W3"))
        for room in ("core", "worker", "postgres", "psycopg", "asyncio", "user", "other")
    ),
)


def definition_of(workload: str, sizes: dict[str, object]) -> str:
    """What exactly a workload does, in its sizes."""
    return _DEFINITIONS[workload].format(**sizes)


_DEFINITIONS = {
    "W1": "A client starts {singles:,} runs, each in a commit of its own; then {batches:,} times 1,000 with "
    "`start_many`. No worker runs.",
    "W2": "{drain:,} runs without a step appear in one commit before an idle worker; from that commit until the last "
    "one has completed.",
    "W2b": "The same with two worker processes.",
    "W3": "{stepped:,} runs of ten steps appear in one commit before an idle worker; {waves:,} times, one after "
    "another. Each step is committed before the next one of its run begins.",
    "W3s": "One run of {chain:,} steps, {chains:,} times: from its first claim to its end.",
    "W4": "Ten parents each with {brood:,} children, {families:,} times; one parent with {crowd:,}; no-op children, "
    "all in one Gather, from the parents' start to their end.",
    "W5": "{latencies:,} times `client.start` and `run.result()` of a no-op run in front of an idle worker, about 20 "
    "ms apart.",
    "W6": "{sleeps:,} runs that sleep one second appear in one commit; what the last one ends later than that commit "
    "plus one second. Then {sleepers:,} runs that sleep an hour: connections and resident memory of the worker "
    "that put them to sleep beyond those of the same worker before, which had a fifth as many runs without a step "
    "behind it; and of one started beside them, beyond those of one started alone.",
    "W7": "A run with so many committed steps becomes ready in front of an idle worker that has never seen it; until "
    "its next step is called. Medians of {resumes}.",
    "W8": "Statements that reach the server from one idle worker in {idle_seconds:g} s, by the server's log (BEGIN and "
    "COMMIT are two), and its connections.",
    "W9": "WAL from before the start until after the end of {wal_noops:,} no-op runs and of {wal_tens:,} runs of ten "
    "steps, started 1,000 at a time, after a checkpoint.",
    "W10": "W2 with {finished:,} finished and {asleep:,} sleeping runs in the same tables, and a session that holds a "
    "snapshot from before it; as a part of W2 in the same round.",
    "W11": "W3 with async step functions.",
    "memory": "Four times {long_drain:,} no-op runs drained by one worker; the slope of its resident memory over the "
    "later half, by least squares.",
    "profile": "W2 and W3 once more with a sampler in the worker: a sample each 4 ms of CPU time, by the room of the "
    "function that the main thread is in. core: the interpreter, commands, codec, fingerprints; worker: the runner, "
    "the committer, calls; postgres: statements, parameters, rows; asyncio: the event loop, and what the threads of "
    "the step functions take while it waits for them; other: the standard library.",
    "start-up": "`import flowgen` within Python; from the spawn of a worker process until its session is registered; "
    "`flowgen --help` from spawn to end.",
}
