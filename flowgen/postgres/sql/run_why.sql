-- What decides whether a run goes on: its owner, the workers that could take it, its queue, and what it waits for.
-- A worker is live while its lease holds. Children are counted by whether they have ended; the oldest live one is named.
-- Locks: none. Index: run_pkey, worker_pkey, queue_pkey, run_children, entry_pkey.
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
    r.reason
FROM {schema}.run r
WHERE r.run_id = %(run_id)s::uuid
