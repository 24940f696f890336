-- One child with an author's id: started, attached to the run that exists, or a conflict. Waits for locks.
-- `circle` when the parent would wait for a run that waits for it, itself or through others, or for itself.
-- Locks: the worker row FOR KEY SHARE; the rows of parent and child in the order of run_id FOR NO KEY UPDATE.
-- Index: worker_pkey, run_pkey, waiter_pkey.
WITH RECURSIVE around AS (
    SELECT r.run_id, r.parent_id FROM {schema}.run r WHERE r.run_id = %(parent)b AND %(blocks)b
    UNION
    SELECT r.run_id, r.parent_id
    FROM around a
    CROSS JOIN LATERAL (
        SELECT a.parent_id AS run_id UNION ALL SELECT w.waiting_id FROM {schema}.waiter w WHERE w.run_id = a.run_id
    ) above
    JOIN {schema}.run r ON r.run_id = above.run_id
    WHERE r.status < 7
), circle AS (
    SELECT (SELECT a.run_id FROM around a WHERE a.run_id = %(run)b) AS run_id
)
SELECT 'circle', {schema}.clock(), r.name, r.input::text, false, NULL::uuid[], NULL::integer[], NULL::timestamptz[]
FROM circle c JOIN {schema}.run r ON r.run_id = c.run_id
UNION ALL
SELECT f.what, f.at, f.name, f.input, f.went_on, f.due_run, f.due_index, f.due
FROM circle c
CROSS JOIN LATERAL {schema}.attach_child(
    %(session)b, %(epoch)b, %(claim)b, %(e_run)b, %(e_index)b, %(e_facts)b, %(e_key)b, %(e_fingerprint)b,
    %(e_attempt)b, %(e_value)b, %(e_due)b, %(e_delay)b, %(run)b, %(id)s, %(kind)b, %(name)b, %(queue)b, %(priority)b,
    %(input)b, %(at)s, %(delay)s, %(deadline)s, %(tags)s, %(correlation)s, %(parent_correlation)s, %(parent)b,
    %(parent_key)b, %(root)s, %(depth)b, %(detached)b, %(trigger)s, %(wait)b
) f
WHERE c.run_id IS NULL
