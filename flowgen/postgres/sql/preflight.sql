-- What of the server, its settings and the role's rights could break a promise; `may_use` is null without the schema.
-- Locks: none. Index: those of the catalog.
SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
    pg_catalog.current_setting('server_encoding'),
    pg_catalog.current_setting('default_transaction_isolation'),
    pg_catalog.current_setting('synchronous_commit'),
    pg_catalog.current_setting('standard_conforming_strings'),
    CURRENT_USER::pg_catalog.text,
    pg_catalog.quote_ident(pg_catalog.current_database()),
    (SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE') FROM pg_catalog.pg_namespace n
        WHERE n.nspname = {schema_text}),
    pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')
