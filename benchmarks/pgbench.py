"""The limits that PostgreSQL itself sets, by its own pgbench: the same rows with no flowgen in between.

Three scripts: one row an INSERT, 500 rows an INSERT (both into a table like that of the history), and a queue that is
claimed and completed by 500 rows, each half in a commit of its own, by as many clients as there are cores.
"""

from __future__ import annotations

import os
import re

from benchmarks.measure import BenchmarkError, Stage
from flowgen.postgres import embedded
from flowgen.postgres.server_binaries import run_as

__all__ = ["limits"]

BATCH = 500

_TABLES = """
DROP TABLE IF EXISTS limit_entry, limit_queue;
CREATE TABLE limit_entry (run_id uuid NOT NULL, recorded_at timestamptz NOT NULL, index integer NOT NULL,
    kind smallint NOT NULL, status smallint, key text NOT NULL, fingerprint text, value text,
    PRIMARY KEY (run_id, index));
CREATE TABLE limit_queue (id bigint PRIMARY KEY, created_at timestamptz NOT NULL, status smallint NOT NULL,
    owner uuid, started_at timestamptz, finished_at timestamptz, name text NOT NULL, input json NOT NULL, output json)
    WITH (fillfactor = 50);
CREATE INDEX limit_ready ON limit_queue (id) WHERE status = 0;
"""
_ONE = """
INSERT INTO limit_entry VALUES (gen_random_uuid(), now(), 0, 1, 1, 'one', 'step one 0123456789abcdef', '1');
"""
_MANY = f"""
INSERT INTO limit_entry SELECT gen_random_uuid(), now(), 0, 1, 1, 'one', 'step one 0123456789abcdef', '1'
FROM generate_series(1, {BATCH});
"""
_QUEUE = f"""
WITH picked AS (SELECT id FROM limit_queue WHERE status = 0 ORDER BY id LIMIT {BATCH} FOR UPDATE SKIP LOCKED),
taken AS (UPDATE limit_queue q SET status = 3, owner = '00000000-0000-0000-0000-000000000001', started_at = now()
    FROM picked WHERE q.id = picked.id RETURNING q.id)
SELECT coalesce(array_agg(id), '{{}}') AS ids FROM taken \\gset
UPDATE limit_queue SET status = 7, owner = NULL, finished_at = now(), output = '1' WHERE id = ANY (:ids::bigint[]);
"""
_FILL = """
INSERT INTO limit_queue (id, created_at, status, name, input)
SELECT at, now(), 0, 'noop', '{"n":1}' FROM generate_series(1, %s) at
"""


def limits(stage: Stage, *, seconds: int, rows: int) -> dict[str, float]:
    """`insert_one`, `insert_500` and `claim_complete` in rows per second, `insert_ms` per single insert."""
    stage.conn.execute(_TABLES)
    stage.conn.execute("CHECKPOINT")
    one = _pgbench(stage, _ONE, "-c", "1", "-T", str(seconds))
    stage.conn.execute("TRUNCATE limit_entry")
    many = _pgbench(stage, _MANY, "-c", "1", "-T", str(seconds)) * BATCH
    clients = os.cpu_count() or 1
    each = max(1, rows // BATCH // clients)
    stage.conn.execute(_FILL, [each * clients * BATCH])
    stage.conn.execute("VACUUM (ANALYZE) limit_queue")
    stage.conn.execute("CHECKPOINT")
    queue = _pgbench(stage, _QUEUE, "-c", str(clients), "-j", str(clients), "-t", str(each)) * BATCH
    left = stage.one("SELECT count(*) FROM limit_queue WHERE status <> 7")[0]
    queue *= 1 - left / (each * clients * BATCH)  # a client that skips what another one holds may find less than 500
    stage.conn.execute("DROP TABLE limit_entry, limit_queue")
    return {"insert_one": one, "insert_ms": 1000 / one, "insert_500": many, "claim_complete": queue}


def _pgbench(stage: Stage, script: str, *options: str) -> float:
    """Transactions per second of a script."""
    file = stage.folder / "limit.sql"
    file.write_text(script, encoding="utf-8")
    program = str(embedded.binaries() / "pgbench")
    said = run_as(None, [program, "-n", "-M", "prepared", "-f", str(file), *options, stage.url])
    found = re.search(r"^tps = ([\d.]+)", said.stdout, re.MULTILINE)
    if said.returncode != 0 or found is None:
        raise BenchmarkError(f"pgbench failed:\n{said.stdout}{said.stderr}")
    return float(found[1])
