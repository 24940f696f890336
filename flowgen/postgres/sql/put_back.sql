-- Held runs that a live worker can claim become ready.
-- Locks: rows of run in the order of run_id, SKIP LOCKED. Index: run_held, run_pkey.
SELECT {schema}.put_back(%(limit)b)
