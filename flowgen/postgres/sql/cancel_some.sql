-- Cancel runs that somebody else may own: ends those that have not begun, asks the others for it. Gives how many were
-- still to be cancelled before: what `cancel_some` does is not seen by this snapshot.
-- Locks: rows of run (these, their parents, who waits for them) in the order of run_id, SKIP LOCKED. Index: run_pkey.
WITH given AS MATERIALIZED (
    SELECT r.run_id, r.status < 7 AND r.request IS DISTINCT FROM 1 AS lives FROM {schema}.run r
    WHERE r.run_id = ANY (%(runs)b) AND (%(parent)s::uuid IS NULL OR r.parent_id = %(parent)s::uuid)
    ORDER BY r.run_id
)
SELECT (SELECT pg_catalog.count(*) FROM given WHERE lives),
    {schema}.cancel_some(ARRAY(SELECT run_id FROM given ORDER BY run_id), %(reason)b)
