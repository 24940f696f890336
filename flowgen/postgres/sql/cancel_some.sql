-- Cancel runs that somebody else may own: ends those that have not begun, asks the others for it.
-- Locks: rows of run (these, their parents, who waits for them) in the order of run_id, SKIP LOCKED. Index: run_pkey.
SELECT {schema}.cancel_some(%(runs)b, %(reason)b)
