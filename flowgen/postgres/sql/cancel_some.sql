-- Cancel runs that somebody else may own: ends those that have not begun, asks the others for it.
-- Locks: rows of run (these, their parents, who waits for them) in the order of run_id, SKIP LOCKED. Index: run_pkey.
SELECT {schema}.cancel_some(
    ARRAY(
        SELECT r.run_id FROM {schema}.run r
        WHERE r.run_id = ANY (%(runs)b) AND (%(parent)s::uuid IS NULL OR r.parent_id = %(parent)s::uuid)
        ORDER BY r.run_id
    ),
    %(reason)b
)
