-- Whether the schema is there; who may not create one can be given one.
-- Locks: none. Index: those of the catalog.
SELECT 1 FROM pg_catalog.pg_namespace n WHERE n.nspname = {schema_text}
