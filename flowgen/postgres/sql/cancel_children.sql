-- Cancel live children of runs that ended as failed or cancelled; again until nothing changes.
-- Locks: rows of run in the order of run_id, SKIP LOCKED. Index: run_cascade, run_children, run_pkey.
SELECT {schema}.cancel_children(%(limit)b)
