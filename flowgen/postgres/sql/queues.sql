-- The queues that are paused.
-- Locks: none. Index: none, a few rows.
SELECT name FROM {schema}.queue WHERE paused ORDER BY name
