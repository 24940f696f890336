-- Which of these server processes are at work on a statement, or have been a moment ago; and which one this is.
-- Locks: none. Index: none.
SELECT pg_catalog.pg_backend_pid(), (
    SELECT pg_catalog.array_agg(a.pid) FROM pg_catalog.pg_stat_activity a
    WHERE a.pid = ANY (%(pids)b::int4[])
        AND (a.state = 'active' OR a.state_change > pg_catalog.clock_timestamp() - %(recent)b::interval)
)
