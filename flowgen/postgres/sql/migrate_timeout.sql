-- A migration waits ten seconds for a table and then gives up, so that nobody queues behind it for long.
-- Locks: none. Index: none.
SELECT pg_catalog.set_config('lock_timeout', '10s', true)
