-- Between two Transactions on one connection: nothing that a function set, locked, listened to or made for its session
-- is there for the next. Prepared statements stay: the driver counts on them.
-- Locks: none. Index: none.
DO $reset$
BEGIN
    EXECUTE 'SET SESSION AUTHORIZATION DEFAULT';
    EXECUTE 'RESET ALL';
    EXECUTE 'UNLISTEN *';
    EXECUTE 'DISCARD TEMP';
    EXECUTE 'DISCARD SEQUENCES';
    PERFORM pg_catalog.pg_advisory_unlock_all();
END
$reset$
