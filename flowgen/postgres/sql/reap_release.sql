-- The third commit of reaping: a batch of the runs of dead, quiet sessions is ready again.
-- Locks: rows of run in the order of run_id, SKIP LOCKED. Index: run_owned, run_pkey, entry_pkey.
SELECT {schema}.release_lost(%(limit)b)
