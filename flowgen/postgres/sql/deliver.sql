-- Messages into the inboxes of runs; those that wait are ready.
-- Locks: rows of run in the order of run_id FOR NO KEY UPDATE. Index: run_pkey.
SELECT run_id, status, told FROM {schema}.deliver(
    %(runs)b::pg_catalog.uuid[], %(kinds)b::pg_catalog.int4[], %(keys)b::pg_catalog.text[],
    %(payloads)b::pg_catalog.text[]
)
