-- The next page of a history that is too large for a claim, in the order of the fields of an Entry. Read by the owner of
-- the run.
-- Locks: none. Index: entry_pkey.
SELECT e.index, e.kind, e.key, e.fingerprint, e.status, e.attempt, e.value, e.due_at, NULL::interval, e.named,
    e.recorded_at
FROM (
    SELECT p.*, pg_catalog.sum(p.size) OVER (ORDER BY p.index ROWS UNBOUNDED PRECEDING) AS total
    FROM (
        SELECT a.*, 200 + pg_catalog.length(a.key) + coalesce(pg_catalog.octet_length(a.value), 0) AS size
        FROM {schema}.entry a
        WHERE a.run_id = %(run)b AND a.index > %(after)b::integer
            AND (a.index < %(prologue)b::integer OR a.index >= %(base)b::integer OR a.named)
        ORDER BY a.index LIMIT %(limit)b
    ) p
) e
WHERE e.total <= %(bytes)b OR e.total = e.size
ORDER BY e.index
