-- The version of the schema.
-- Locks: none. Index: migration_pkey.
SELECT pg_catalog.max(version) FROM {schema}.migration
