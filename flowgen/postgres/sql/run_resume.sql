-- Resume a run that is paused or parked, and its paused descendants, detached ones apart. A start with a delay that is
-- not over is delayed again. A request to pause that nobody has followed yet is taken back. Repeated by the caller until
-- the count is 0.
-- Who and why are kept once (`tell`), for the run that was named, with the first that is changed.
-- Locks: none that run_lock has not taken (`among`), for the order. Index: run_pkey, run_children.
WITH RECURSIVE tree AS (
    SELECT run_id FROM {schema}.run WHERE run_id = %(run_id)s::uuid
    UNION
    SELECT c.run_id FROM tree t JOIN {schema}.run c ON c.parent_id = t.run_id WHERE NOT c.detached
), locked AS MATERIALIZED (
    SELECT r.run_id, r.status,
        r.status = 5 AND r.started_at IS NULL AND r.due_at > {schema}.clock() AS early
    FROM {schema}.run r
    WHERE r.run_id IN (SELECT run_id FROM tree)
        AND (r.status = 5 OR r.status = 6 AND r.run_id = %(run_id)s::uuid OR r.status < 5 AND r.request = 2)
        AND r.run_id = ANY (%(among)b::uuid[])
    ORDER BY r.run_id
    FOR NO KEY UPDATE
), written AS (
    UPDATE {schema}.run r
    SET status = CASE WHEN l.status NOT IN (5, 6) THEN l.status WHEN l.early THEN 1 ELSE 0 END,
        due_at = CASE WHEN l.status NOT IN (5, 6) OR l.early THEN r.due_at ELSE {schema}.clock() END,
        error = CASE WHEN l.status = 6 THEN NULL ELSE r.error END,
        request = NULL,
        reason = NULL
    FROM locked l
    WHERE r.run_id = l.run_id
), audited AS (
    INSERT INTO {schema}.audit (at, run_id, action, who, reason)
    SELECT {schema}.clock(), %(run_id)s::uuid, 'resume', %(who)s::text, NULL
    WHERE %(tell)s::boolean AND EXISTS (SELECT FROM locked)
    RETURNING id
)
SELECT (SELECT pg_catalog.count(*) FROM locked), EXISTS (SELECT FROM audited)
