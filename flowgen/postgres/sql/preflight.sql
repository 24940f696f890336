-- What of the server and its settings could break a promise.
-- Locks: none. Index: none.
SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
    pg_catalog.current_setting('server_encoding'),
    pg_catalog.current_setting('default_transaction_isolation'),
    pg_catalog.current_setting('synchronous_commit'),
    pg_catalog.current_setting('standard_conforming_strings')
