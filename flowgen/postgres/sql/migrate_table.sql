-- Which migrations were applied, and when.
-- Locks: none that matter. Index: none.
CREATE TABLE IF NOT EXISTS {schema}.migration (
    version integer NOT NULL,
    name text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT pg_catalog.statement_timestamp(),
    CONSTRAINT migration_pkey PRIMARY KEY (version)
)
