-- The schema itself, unless it is there.
-- Locks: none that matter. Index: none.
CREATE SCHEMA IF NOT EXISTS {schema}
