-- Cancel a run and its live descendants, detached ones apart (and what hangs below them). What has not begun ends here,
-- and tells its parent and whoever waits for it; what has begun is asked (`request`) and, unless it runs, made ready, so
-- that its owner throws Cancelled and ends it. Repeated by the caller until the count is 0: a child may be inserted by a
-- flush that this snapshot does not see. The descent goes through runs that have ended: their children may live on.
-- Who and why are kept once (`tell`), for the run that was named, with the first that is changed.
-- Locks: none that run_lock has not taken (`among`), for the order; when somebody new is to be told, nothing is done yet.
-- What is written is decided by the columns of the locked rows.
-- Index: run_pkey, run_children, waiter_pkey, inbox_pkey.
WITH RECURSIVE tree AS (
    SELECT run_id FROM {schema}.run WHERE run_id = %(run_id)s::uuid
    UNION
    SELECT c.run_id FROM tree t JOIN {schema}.run c ON c.parent_id = t.run_id WHERE NOT c.detached
), concerned AS (
    SELECT run_id FROM tree
    UNION
    SELECT parent_id FROM {schema}.run WHERE run_id = %(run_id)s::uuid
    UNION
    SELECT w.waiting_id FROM tree t JOIN {schema}.waiter w ON w.run_id = t.run_id
    WHERE t.run_id = ANY (%(among)b::uuid[])
), stranger AS MATERIALIZED (
    SELECT r.run_id FROM {schema}.run r
    WHERE r.run_id IN (SELECT run_id FROM concerned EXCEPT SELECT run_id FROM tree) AND r.status < 7
        AND r.run_id <> ALL (%(among)b::uuid[])
), locked AS MATERIALIZED (
    SELECT r.run_id, r.status, r.request, r.parent_id, r.parent_key, r.started_at IS NULL AND r.claim = 0 AS untouched
    FROM {schema}.run r
    WHERE r.run_id IN (SELECT run_id FROM concerned) AND r.status < 7
        AND r.run_id = ANY (%(among)b::uuid[]) AND NOT EXISTS (SELECT FROM stranger)
    ORDER BY r.run_id
    FOR NO KEY UPDATE
), asked AS (
    SELECT l.run_id, l.parent_id, l.parent_key, l.untouched AND l.status IN (0, 1, 2, 5) AS outright
    FROM locked l
    WHERE l.request IS DISTINCT FROM 1 AND l.run_id IN (SELECT run_id FROM tree)
), message AS (
    SELECT a.parent_id AS run_id, a.parent_key AS key FROM asked a WHERE a.outright AND a.parent_key IS NOT NULL
    UNION ALL
    SELECT w.waiting_id, w.key FROM asked a JOIN {schema}.waiter w ON w.run_id = a.run_id WHERE a.outright
), mailed AS (
    SELECT m.run_id, m.key
    FROM message m JOIN locked l ON l.run_id = m.run_id
    WHERE NOT EXISTS (SELECT FROM asked a WHERE a.run_id = m.run_id AND a.outright)
), written AS (
    UPDATE {schema}.run r
    SET status = CASE
            WHEN n.outright THEN 9
            WHEN n.asked AND n.status <> 3 THEN 0
            WHEN n.status = 4 THEN 0
            ELSE n.status
        END,
        due_at = CASE WHEN n.outright THEN NULL WHEN n.status = 4 OR n.asked AND n.status <> 3 THEN c.now ELSE r.due_at END,
        finished_at = CASE WHEN n.outright THEN c.now END,
        error = CASE WHEN n.outright THEN %(error)s::json WHEN n.asked THEN NULL ELSE r.error END,
        request = CASE WHEN n.outright THEN NULL WHEN n.asked THEN 1 ELSE r.request END,
        reason = CASE WHEN n.asked THEN %(reason)s::text ELSE r.reason END,
        mail = r.mail + n.mail
    FROM (SELECT {schema}.clock() AS now) c, (
        SELECT l.run_id, l.status, a.run_id IS NOT NULL AS asked, coalesce(a.outright, false) AS outright,
            coalesce(m.mail, 0) AS mail
        FROM locked l
        LEFT JOIN asked a ON a.run_id = l.run_id
        LEFT JOIN (SELECT run_id, pg_catalog.count(*)::int AS mail FROM mailed GROUP BY run_id) m ON m.run_id = l.run_id
        WHERE a.run_id IS NOT NULL OR m.run_id IS NOT NULL
    ) n
    WHERE r.run_id = n.run_id
), told AS (
    INSERT INTO {schema}.inbox (run_id, created_at, kind, key, payload)
    SELECT run_id, {schema}.clock(), 1, key, %(payload)s::text FROM mailed
), emptied AS (
    DELETE FROM {schema}.inbox i USING asked a WHERE i.run_id = a.run_id AND a.outright
), forgotten AS (
    DELETE FROM {schema}.waiter w USING asked a WHERE w.run_id = a.run_id AND a.outright
), audited AS (
    INSERT INTO {schema}.audit (at, run_id, action, who, reason)
    SELECT {schema}.clock(), %(run_id)s::uuid, 'cancel', %(who)s::text, %(reason)s::text
    WHERE %(tell)s::boolean AND EXISTS (SELECT FROM asked)
    RETURNING id
)
SELECT (SELECT pg_catalog.count(*) FROM asked) + (SELECT pg_catalog.count(*) FROM stranger),
    EXISTS (SELECT FROM audited)
