-- A message to the run that an id may mean.
-- Every name is qualified: it runs on connections of callers, whatever their search_path is.
-- Locks: the run's row FOR NO KEY UPDATE. Index: run_pkey.
SELECT run_id, name, status, told FROM {schema}.post(
    %(to)b::pg_catalog.uuid[], %(kind)s::pg_catalog.int4, %(key)s::pg_catalog.text, %(payload)s::pg_catalog.text
)
