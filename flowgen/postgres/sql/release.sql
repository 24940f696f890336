-- Give runs of this session back at once, without a recovery: a graceful stop.
-- Locks: the worker row FOR KEY SHARE; rows of run in the order of run_id, SKIP LOCKED. Index: worker_pkey, run_owned.
SELECT {schema}.release_runs(%(session)b, %(epoch)b, %(runs)b)
