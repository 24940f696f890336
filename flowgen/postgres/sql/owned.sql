-- The running runs of a session: after a claim whose commit is unknown.
-- Locks: none. Index: run_owned.
SELECT run_id, claim FROM {schema}.run WHERE status = 3 AND owner = %(session)b
