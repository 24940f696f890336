-- Entries of a run that nobody reads any more: of earlier passes and closed segments.
-- Locks: a row of former FOR UPDATE SKIP LOCKED. Index: former_pkey, run_pkey, entry_pkey.
SELECT {schema}.sweep_former(%(limit)s)
