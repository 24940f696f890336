-- Delayed and waiting runs that are due become ready.
-- Locks: rows of run in the order of run_id FOR NO KEY UPDATE SKIP LOCKED. Index: run_future, run_pkey.
SELECT at, promoted, next_due_at FROM {schema}.promote(%(limit)b)
