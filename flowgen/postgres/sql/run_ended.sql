-- Those of the runs asked for that have ended, and those that do not exist: one question for all waiters of a client.
-- Locks: none. Index: run_pkey, also when the plan was made on an empty table (see the function).
SELECT run_id, status, output, error FROM {schema}.ended(%(run_ids)b::uuid[])
