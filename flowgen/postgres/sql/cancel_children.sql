-- Cancel live children of runs that ended as failed or cancelled, and those that are noted as wanted by nobody; again
-- until nothing changes.
-- Locks: rows of run in the order of run_id, SKIP LOCKED; rows of unwanted, SKIP LOCKED.
-- Index: run_cascade, run_children, run_pkey, unwanted_pkey.
SELECT {schema}.cancel_children(%(limit)b) + {schema}.cancel_unwanted(%(limit)b, %(reason)b)
