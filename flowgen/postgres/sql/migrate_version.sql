-- The version of the schema.
-- Locks: none. Index: migration_pkey.
SELECT max(version) FROM {schema}.migration
