-- Use a completion token.
-- Every name is qualified: it runs on connections of callers, whatever their search_path is.
-- Locks: the row of its run FOR NO KEY UPDATE. Index: run_pkey, inbox_pkey.
SELECT {schema}.use_token(%(token)s::pg_catalog.text, %(payload)s::pg_catalog.text)
