-- Pause a run and its live descendants, detached ones apart. What runs is asked (`request`) and stops at its next
-- hang-up; what nobody owns is paused here. A run that is parked, or being cancelled, is left alone. Repeated by the
-- caller until the count is 0.
-- Who and why are kept once (`tell`), for the run that was named, with the first that is changed.
-- Locks: none that run_lock has not taken (`among`), for the order. Index: run_pkey, run_children.
WITH RECURSIVE tree AS (
    SELECT run_id FROM {schema}.run WHERE run_id = %(run_id)s::uuid
    UNION
    SELECT c.run_id FROM tree t JOIN {schema}.run c ON c.parent_id = t.run_id WHERE NOT c.detached
), locked AS MATERIALIZED (
    SELECT r.run_id, r.status
    FROM {schema}.run r
    WHERE r.run_id IN (SELECT run_id FROM tree) AND r.status IN (0, 1, 2, 3, 4) AND r.request IS NULL
        AND r.run_id = ANY (%(among)b::uuid[])
    ORDER BY r.run_id
    FOR NO KEY UPDATE
), written AS (
    UPDATE {schema}.run r
    SET status = CASE WHEN l.status = 3 THEN 3 ELSE 5 END,
        request = CASE WHEN l.status = 3 THEN 2 END,
        reason = %(reason)s::text
    FROM locked l
    WHERE r.run_id = l.run_id
), audited AS (
    INSERT INTO {schema}.audit (at, run_id, action, who, reason)
    SELECT {schema}.clock(), %(run_id)s::uuid, 'pause', %(who)s::text, %(reason)s::text
    WHERE %(tell)s::boolean AND EXISTS (SELECT FROM locked)
    RETURNING id
)
SELECT (SELECT pg_catalog.count(*) FROM locked), EXISTS (SELECT FROM audited)
