"""Rows in bulk, by SQL: what a database holds that has been in use for long.

They look as flowgen's own do, but were written by nobody: finished runs, runs that sleep until tomorrow, and a run
that stopped after many committed steps.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from uuid import UUID

import psycopg

from benchmarks.measure import Stage
from flowgen.client.clock import new_uuid

__all__ = ["asleep", "finished", "interrupted", "old_snapshot"]

_FINISHED = """
INSERT INTO flowgen.run (run_id, created_at, due_at, started_at, finished_at, claim, status, output, queue, name, kind,
    input)
SELECT flowgen.new_run_id(), now(), now(), now(), now(), 1, 7, '1', 'default', 'noop', 'workflow', '{"n":1}'
FROM generate_series(1, %s)
"""
_ASLEEP = """
WITH made AS (
    INSERT INTO flowgen.run (run_id, created_at, due_at, started_at, claim, status, queue, name, kind, input)
    SELECT flowgen.new_run_id(), now(), now() + interval '1 day' + at * interval '1 ms', now(), 1, 4, 'default',
        'sleeper', 'workflow', '{"seconds":86400}'
    FROM generate_series(1, %s) at RETURNING run_id, due_at
)
INSERT INTO flowgen.entry (run_id, recorded_at, due_at, index, kind, key, fingerprint)
SELECT run_id, now(), due_at, 0, 4, 'sleep', 'sleep' FROM made
"""
_HISTORY = """
INSERT INTO flowgen.entry (run_id, recorded_at, index, attempt, kind, status, named, key, fingerprint, value)
SELECT %s, now(), t.index + at, t.attempt, t.kind, t.status, t.named,
    CASE WHEN at = 0 THEN t.key ELSE t.key || '#' || at + 1 END, t.fingerprint, t.value
FROM (SELECT * FROM flowgen.entry WHERE run_id = %s ORDER BY index LIMIT 1) t, generate_series(0, %s - 1) at
"""
# Parked: nobody claims it before it is woken.
_INTERRUPTED = """
INSERT INTO flowgen.run (run_id, created_at, due_at, started_at, claim, status, queue, name, kind, input)
VALUES (%s, now(), now(), now(), 1, 6, 'default', 'resumed', 'workflow', %s)
"""


def finished(stage: Stage, count: int) -> None:
    """Completed runs."""
    stage.conn.execute(_FINISHED, [count])
    settle(stage)


def asleep(stage: Stage, count: int) -> None:
    """Runs that sleep until tomorrow."""
    stage.conn.execute(_ASLEEP, [count])
    settle(stage)


def interrupted(stage: Stage, template: UUID, steps: int) -> UUID:
    """A run of `resumed` that has `steps` committed steps, each as the first of `template`; it is parked."""
    made = new_uuid()
    with stage.conn.transaction():
        stage.conn.execute(_INTERRUPTED, [made, f'{{"n":{steps}}}'])
        stage.conn.execute(_HISTORY, [made, template, steps])
    return made


def settle(stage: Stage) -> None:
    """What autovacuum and the checkpointer would have done by the next day."""
    stage.conn.execute("VACUUM (ANALYZE) flowgen.run, flowgen.entry")
    stage.conn.execute("CHECKPOINT")


@contextlib.contextmanager
def old_snapshot(stage: Stage) -> Iterator[None]:
    """A session that holds a snapshot from before the block, so that nothing dead in it can be removed."""
    with psycopg.connect(stage.url, application_name="benchmark snapshot") as conn:
        conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        conn.execute("SELECT count(*) FROM flowgen.worker")
        yield
        conn.rollback()
