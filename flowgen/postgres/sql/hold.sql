-- Ready runs that no live worker knows, or of a paused queue, are held.
-- Locks: rows of run in the order of run_id, SKIP LOCKED. Index: run_ready, run_pkey.
SELECT {schema}.hold(%(limit)b)
