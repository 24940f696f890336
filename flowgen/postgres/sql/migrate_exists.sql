-- Whether the schema has a table of migrations.
-- Locks: none. Index: those of the catalog.
SELECT 1 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = {schema_text} AND c.relname = 'migration'
