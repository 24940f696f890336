-- Lock a run that a client acts on, its live descendants, its parent and whoever waits for one of them, so that the next
-- statement of the transaction sees them as they are: what it writes must fit the row, and a row that changed between
-- its snapshot and its lock would be checked half old and half new.
-- Locks: these rows, in run_id order. Index: run_pkey, run_children, waiter_pkey.
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
), locked AS MATERIALIZED (
    SELECT r.run_id
    FROM {schema}.run r
    WHERE r.run_id IN (SELECT run_id FROM concerned) AND r.status < 7
    ORDER BY r.run_id
    FOR NO KEY UPDATE
)
SELECT pg_catalog.array_agg(run_id) FROM locked
