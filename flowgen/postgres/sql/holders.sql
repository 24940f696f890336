-- Who keeps row versions that nobody needs any more, or WAL, the oldest first; `since` is NULL where it is not recorded
-- or not shown to this role. Vacuum itself keeps none. A logical slot, or one without a standby's snapshot, keeps WAL.
-- Locks: none. Index: none, a few rows.
SELECT h.what, h.name, h.mark, h.who, h.application, h.state, h.lasts
FROM (
    SELECT 'session' AS what, a.pid::text AS name, coalesce(a.backend_xid, a.backend_xmin)::text AS mark,
        a.usename::text AS who, a.application_name AS application, a.state,
        pg_catalog.clock_timestamp() - a.xact_start AS lasts,
        greatest(age(a.backend_xid), age(a.backend_xmin)) AS old
    FROM pg_catalog.pg_stat_activity a
    WHERE coalesce(a.backend_xid, a.backend_xmin) IS NOT NULL AND a.pid <> pg_catalog.pg_backend_pid()
        AND (a.datname = pg_catalog.current_database() OR a.backend_type = 'walsender')
        AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_vacuum v WHERE v.pid = a.pid)
    UNION ALL
    SELECT 'prepared', p.gid, p.transaction::text, p.owner::text, NULL, NULL, pg_catalog.clock_timestamp() - p.prepared,
        age(p.transaction)
    FROM pg_catalog.pg_prepared_xacts p
    WHERE p.database = pg_catalog.current_database()
    UNION ALL
    SELECT CASE WHEN s.xmin IS NULL THEN 'wal' ELSE 'slot' END, s.slot_name::text,
        coalesce(s.xmin::text, s.restart_lsn::text), NULL, NULL, CASE WHEN s.active THEN 'active' ELSE 'inactive' END,
        NULL, coalesce(age(s.xmin), 0)
    FROM pg_catalog.pg_replication_slots s
    WHERE s.xmin IS NOT NULL OR NOT s.active AND s.restart_lsn IS NOT NULL
) h
ORDER BY h.old DESC
LIMIT %(limit)b
