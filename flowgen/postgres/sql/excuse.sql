-- The process of a session that is over has lived: what its end was counted for is taken back.
-- Locks: the worker row FOR NO KEY UPDATE; rows of run in the order of run_id, SKIP LOCKED. Index: worker_pkey, run_pkey.
SELECT {schema}.excuse(%(lost)b, %(excuse)b)
