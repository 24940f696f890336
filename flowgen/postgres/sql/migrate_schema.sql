-- The schema itself; a user who may not create it can be given one.
-- Locks: none that matter. Index: none.
CREATE SCHEMA IF NOT EXISTS {schema}
