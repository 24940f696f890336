-- Entries of earlier passes of a run that went on as new.
-- Locks: a row of former FOR UPDATE SKIP LOCKED. Index: former_pkey, run_pkey, entry_pkey.
SELECT {schema}.sweep_former(%(limit)s)
