-- One migrator at a time for each schema; waits for another one as long as that takes.
-- Locks: an advisory one, until the end of the transaction. Index: none.
SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('flowgen migrate ' || {schema_text}, 0))
