"""The stage of a measurement: a fresh embedded server, worker processes on it, and what a stretch of work costs.

Times of a drain are the database's: from the commit of the last start to the look that finds nothing left, at most
`LOOK` seconds late. The stage runs no worker in its own process. Invariant: whatever happens, the server and the
workers that it started are gone when its block ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from uuid import UUID

import attrs
import psycopg

import flowgen
from benchmarks.processes import WorkerProcess, cpu_of, sampled, tree_cpu
from flowgen.client import Client
from flowgen.client.clock import new_uuids
from flowgen.postgres import database, embedded, notifications, runs
from flowgen.postgres.migrate import migrate_url
from flowgen.postgres.rows import NewRun

__all__ = ["BenchmarkError", "Bill", "Cost", "Outcome", "Stage", "Workers", "staged"]

LOOK = 0.01
"""Seconds between two looks whether a drain has ended."""
READY_SECONDS = 30.0
IDLE_SECONDS = 10.0
DRAIN_SECONDS = 600.0
BATCH = 1000
SCHEMA = database.Schema("flowgen")

_LEFT = """
SELECT EXISTS (SELECT FROM flowgen.run WHERE status = 0 AND recoveries < 2)
    OR EXISTS (SELECT FROM flowgen.run WHERE status = 3)
    OR EXISTS (SELECT FROM flowgen.run WHERE due_at IS NOT NULL AND status IN (1, 4)
        AND due_at < clock_timestamp() + interval '5 minutes'),
    extract(epoch FROM clock_timestamp())::float8
"""
_ENDED = "SELECT status >= 5 FROM flowgen.run WHERE run_id = %s"  # or paused, or parked: `check` will say so
_LAST_END = "SELECT extract(epoch FROM max(finished_at))::float8 FROM flowgen.run WHERE run_id = ANY (%s)"
_BACKENDS = "SELECT array_agg(pid) FROM pg_stat_activity WHERE application_name ~ %s"


class BenchmarkError(Exception):
    """What was measured is not what should have been."""


@attrs.frozen
class Cost:
    """What a stretch of work took, apart from its time."""

    seconds: float
    count: int
    """Runs."""
    worker_cpu: float
    postgres_cpu: float
    wal: int
    transactions: int
    connections: int
    memory: int
    """Peak of the workers' resident bytes."""


@attrs.frozen
class Outcome:
    """The numbers of one workload in one round."""

    values: dict[str, float]
    cost: Cost | None = None


@attrs.define(eq=False)
class Bill:
    """A stretch of work that is being measured."""

    stage: Stage
    count: int
    commits: int
    own: int = 0
    seconds: float = 0.0
    worker_cpu: float = 0.0
    postgres_cpu: float = 0.0
    wal: int = 0
    connections: int = 0
    memory: int = 0

    def cost(self) -> Cost:
        """The sum, when the workers have stopped: a server process reports its transactions at the latest then."""
        commits = self.stage.commits() - self.commits - self.own
        return Cost(
            seconds=self.seconds,
            count=self.count,
            worker_cpu=self.worker_cpu,
            postgres_cpu=self.postgres_cpu,
            wal=self.wal,
            transactions=commits,
            connections=self.connections,
            memory=self.memory,
        )


@attrs.define(eq=False)
class Workers:
    """Worker processes of one stage."""

    stage: Stage
    processes: list[WorkerProcess]

    @property
    def pids(self) -> list[int]:
        return [each.pid for each in self.processes]

    def check(self) -> None:
        if not all(each.alive for each in self.processes):
            raise BenchmarkError(f"a worker died:\n{self.stage.log.read_text(errors='replace')[-3000:]}")

    def signal(self, number: int) -> None:
        for each in self.processes:
            os.kill(each.pid, number)

    def backends(self) -> set[int]:
        """The server processes of the workers' connections."""
        return set(self.stage.one(_BACKENDS, ["^flowgen (?!client)"])[0] or ())


@attrs.define(eq=False)
class Stage:
    """One embedded server with an empty schema, a connection and a client."""

    url: str
    folder: Path
    conn: psycopg.Connection[Any]
    client: Client
    postmaster: int
    concurrency: int | None = None
    rest: float = 1.1
    """Seconds after a warm-up: the server's statistics are a second late."""
    drained: float = 0.0
    """Seconds that drains have taken."""
    asked: int = 0
    """Statements of `one`, each a transaction of the measurement and not of what is measured."""
    expected: list[UUID] = attrs.field(factory=list)
    """Runs that were drained, and not yet checked."""

    @property
    def log(self) -> Path:
        return self.folder / "workers.log"

    def one(self, query: str, params: Sequence[Any] = ()) -> tuple[Any, ...]:
        """The first row of a statement."""
        self.asked += 1
        row: tuple[Any, ...] | None = self.conn.execute(query, params or None).fetchone()
        assert row is not None
        return row

    def clear(self) -> None:
        """Forget all runs; the next WAL begins after a checkpoint, so that full pages do not blur it."""
        self.check()
        self.conn.execute("TRUNCATE flowgen.run, flowgen.entry, flowgen.inbox")
        self.conn.execute("CHECKPOINT")

    @contextlib.contextmanager
    def workers(
        self, count: int = 1, *, definitions: int = 0, warm: bool = True, profile: Path | None = None
    ) -> Iterator[Workers]:
        """Worker processes, ready and (unless told otherwise) warmed up, stopped at the end of the block.

        `profile` is where a worker leaves its profile: see `profile.sample_into`.
        """
        found = Workers(self, [])
        try:
            for _ in range(count):
                found.processes.append(
                    WorkerProcess.start(
                        self.url,
                        self.log,
                        concurrency=self.concurrency,
                        definitions=definitions,
                        profile=profile,
                    )
                )
            self._wait_ready(found)
            if warm:
                for names, runs_of in ((("noop", "ten"), 200), ("ten", 1)):
                    self.drain(found, names, runs_of * count, idle=False)
                    time.sleep(self.rest)
                self.check()
                self.conn.execute("CHECKPOINT")
            yield found
            found.check()
            self.check()
        finally:
            for each in found.processes:
                each.stop()

    def _wait_ready(self, found: Workers) -> None:
        until = time.perf_counter() + READY_SECONDS
        query = "SELECT count(*) FROM flowgen.worker WHERE pid = ANY (%s) AND NOT dead"
        while self.one(query, [found.pids])[0] < len(found.processes):
            found.check()
            if time.perf_counter() > until:
                raise BenchmarkError("no worker was ready in time")
            time.sleep(0.002)

    def fill(self, names: str | Sequence[str], count: int, input: str = '{"n":1}', *, queues: int = 1) -> list[UUID]:
        """Start `count` runs in one transaction: they are there all at once. Several names, or queues, take turns."""
        made = new_uuids(count)
        every = cycle([names] if isinstance(names, str) else names)
        waits = cycle(["default"] if queues == 1 else [f"queue_{at}" for at in range(queues)])
        rows = (
            NewRun(run_id=run_id, name=name, kind="workflow", input=input, queue=queue)
            for run_id, name, queue in zip(made, every, waits, strict=False)
        )
        with self.conn.transaction():
            while batch := list(islice(rows, BATCH)):
                database.run(self.conn, runs.start(batch), SCHEMA)
        return made

    def wake(self, run_id: UUID) -> None:
        """Make a parked run ready; commits."""
        self.conn.execute("UPDATE flowgen.run SET status = 0, due_at = now() WHERE run_id = %s", [run_id])

    def hint(self) -> None:
        """Tell idle workers, as a client does after its commit."""
        self.asked += 1
        database.run(self.conn, notifications.notify(SCHEMA), SCHEMA)

    def wait_empty(self, found: Workers, last: UUID | None = None) -> float:
        """Wait until no run is ready, running or soon due; the database's time of the look that found it so.

        `last` is looked for first: a look for any run goes over all that is dead while an old snapshot is held.
        """
        until = time.perf_counter() + DRAIN_SECONDS
        while True:
            if last is not None and self.one(_ENDED, [last])[0]:
                last = None
            if last is None:
                left, at = self.one(_LEFT)
                if not left:
                    return float(at)
            if time.perf_counter() > until:
                raise BenchmarkError("the queue was not drained in time")
            found.check()
            time.sleep(LOOK)

    def wait_for(self, path: Path, found: Workers) -> None:
        """Wait until a worker has written this file."""
        until = time.perf_counter() + IDLE_SECONDS
        while not path.exists():
            found.check()
            if time.perf_counter() > until:
                raise BenchmarkError(f"a worker has not written {path.name}")
            time.sleep(0.01)

    def wait_idle(self, found: Workers) -> None:
        """Wait until every worker has said that it found nothing to do, and wants to be told of what comes."""
        until = time.perf_counter() + IDLE_SECONDS
        query = "SELECT bool_and(idle) FROM flowgen.worker WHERE pid = ANY (%s) AND NOT dead"
        while not self.one(query, [found.pids])[0]:
            found.check()
            if time.perf_counter() > until:
                raise BenchmarkError("a worker with nothing to do does not become idle")
            time.sleep(0.01)

    def drain(
        self,
        found: Workers,
        names: str | Sequence[str],
        count: int,
        *,
        idle: bool = True,
        beside: UUID | None = None,
        **filled: Any,
    ) -> float:
        """Start `count` runs at once, before idle workers, and wait: seconds from the commit to the end of the last.

        `beside` is a parked run that becomes ready at the same time; its own end does not count.
        """
        if idle:
            self.wait_idle(found)
        made = self.fill(names, count, **filled)
        if beside is not None:
            self.wake(beside)
            self.expected.append(beside)
        begun = float(self.one("SELECT extract(epoch FROM clock_timestamp())::float8")[0])
        self.hint()
        ended = self.wait_empty(found, made[-1])
        if beside is not None:
            ended = float(self.one(_LAST_END, [made])[0])
        seconds = ended - begun
        self.expected.extend(made)
        self.drained += seconds
        return seconds

    def check(self) -> None:
        """Raise BenchmarkError unless every drained run has completed; outside of what is measured."""
        made, self.expected = self.expected, []
        if not made:
            return
        query = "SELECT count(*) FROM flowgen.run WHERE run_id = ANY (%s) AND status = 7"
        completed = self.one(query, [made])[0]
        if completed != len(made):
            raise BenchmarkError(f"{completed} of {len(made)} runs have completed")

    @contextlib.contextmanager
    def billed(self, found: Workers, count: int) -> Iterator[Bill]:
        """What the block costs, which is `count` runs of work. Ask the bill when the workers have stopped."""
        commits, asked = self.commits(), self.asked
        lsn = self.one("SELECT pg_current_wal_insert_lsn()::text")[0]
        cpu, server = sum(cpu_of(pid) for pid in found.pids), tree_cpu(self.postmaster)
        bill = Bill(self, count, commits)
        begun, drained = time.perf_counter(), self.drained
        with sampled(found.pids, 0.05) as memory:
            yield bill
        bill.seconds = self.drained - drained or time.perf_counter() - begun
        bill.worker_cpu = sum(cpu_of(pid) for pid in found.pids) - cpu
        bill.postgres_cpu = tree_cpu(self.postmaster) - server
        bill.wal = int(self.one("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), %s)::bigint", [lsn])[0])
        bill.connections = len(found.backends())
        bill.memory = memory.peak
        bill.own = self.asked - asked

    def commits(self) -> int:
        """Committed transactions, as far as the server processes have reported them."""
        self.one("SELECT pg_stat_force_next_flush()")
        self.one("SELECT pg_stat_clear_snapshot()")
        return int(self.one("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")[0])


@contextlib.contextmanager
def staged(concurrency: int | None = None, *, rest: float = 1.1) -> Iterator[Stage]:
    """A server of its own in a new folder, with PostgreSQL's own durability; gone at the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix="flowgen-bench-"))
    home = folder / ".flowgen"
    try:
        url = embedded.ensure(home, prepare=_prepare, idle=0)
        postmaster = embedded.status(home).pid
        assert postmaster is not None
        with (
            psycopg.connect(url, autocommit=True, application_name="benchmark") as conn,
            flowgen.connect(url) as client,
        ):
            conn.execute("SET enable_seqscan = off")  # looks of the measurement go by an index, whatever is estimated
            yield Stage(url, folder, conn, client, postmaster, concurrency, rest)
    finally:
        embedded.stop(home)
        embedded.reset(home)
        shutil.rmtree(folder, ignore_errors=True)


def _prepare(url: str) -> None:
    migrate_url(url, SCHEMA.name)
