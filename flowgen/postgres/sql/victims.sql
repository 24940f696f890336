-- The workers whose end is counted against a run, in order. Their rows are kept for a day.
-- Locks: none. Index: run_pkey, worker_pkey.
SELECT l.worker_id, w.host, w.pid
FROM {schema}.run r
CROSS JOIN LATERAL unnest(r.lost_with) WITH ORDINALITY AS l(worker_id, place)
LEFT JOIN {schema}.worker w ON w.worker_id = l.worker_id
WHERE r.run_id = %(run_id)b
ORDER BY l.place
