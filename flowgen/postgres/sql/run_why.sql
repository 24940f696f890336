-- What decides whether a run goes on: its owner, the workers that could take it, its queue and windows, and what it
-- waits for.
-- A worker is live while its lease holds. Children are counted by whether they have ended; the oldest live one is named.
-- Locks: none. Index: run_pkey, worker_pkey, queue_pkey, run_children, entry_pkey,
-- time_window_pkey.
SELECT
    {schema}.clock(),
    (SELECT pg_catalog.row_to_json(o) FROM (
        SELECT w.host, w.pid, w.started_at, NOT w.dead AND w.lease_until > {schema}.clock() AS live
        FROM {schema}.worker w WHERE w.worker_id = r.owner
    ) o)::text,
    (SELECT pg_catalog.count(*) FROM {schema}.worker w WHERE NOT w.dead AND w.lease_until > {schema}.clock()),
    (SELECT pg_catalog.count(*) FROM {schema}.worker w
        WHERE NOT w.dead AND w.lease_until > {schema}.clock() AND r.name = ANY(w.names)),
    (SELECT pg_catalog.count(*) FROM {schema}.worker w
        WHERE NOT w.dead AND w.lease_until > {schema}.clock() AND r.name = ANY(w.names)
            AND (w.queues IS NULL OR r.queue = ANY(w.queues))),
    coalesce((SELECT q.paused FROM {schema}.queue q WHERE q.name = r.queue), false),
    (SELECT pg_catalog.count(*) FROM {schema}.run c WHERE c.parent_id = r.run_id AND c.status < 7),
    (SELECT pg_catalog.row_to_json(c) FROM (
        SELECT coalesce(c.id, c.run_id::text) AS id, c.name, c.status, c.parent_key AS key
        FROM {schema}.run c WHERE c.parent_id = r.run_id AND c.status < 7 ORDER BY c.created_at, c.run_id LIMIT 1
    ) c)::text,
    (SELECT pg_catalog.row_to_json(e) FROM (
        SELECT e.key, e.kind, e.due_at, e.attempt, e.value
        FROM {schema}.entry e WHERE e.run_id = r.run_id ORDER BY e.index DESC LIMIT 1
    ) e)::text,
    (SELECT pg_catalog.count(*) FROM {schema}.inbox i WHERE i.run_id = r.run_id),
    r.reason,
    (SELECT pg_catalog.row_to_json(c) FROM (
        SELECT pg_catalog.array_agg(
                pg_catalog.concat(pg_catalog.to_char(w.opens, 'HH24:MI'), '-', pg_catalog.to_char(w.closes, 'HH24:MI'),
                    ' ', w.timezone) ORDER BY w.number
            ) AS windows,
            (SELECT pg_catalog.min(o.moment) FROM {schema}.time_window t
                CROSS JOIN pg_catalog.generate_series(0, 1) AS days(later)
                CROSS JOIN LATERAL (
                    SELECT (({schema}.clock() AT TIME ZONE t.timezone)::date + days.later + t.opens)
                        AT TIME ZONE t.timezone AS moment
                ) o
                WHERE t.name = r.name AND o.moment > {schema}.clock()) AS opens_at
        FROM {schema}.time_window w WHERE w.name = r.name
        HAVING NOT pg_catalog.bool_or({schema}.is_open(w.opens, w.closes, w.timezone))
    ) c)::text
FROM {schema}.run r
WHERE r.run_id = %(run_id)s::uuid
