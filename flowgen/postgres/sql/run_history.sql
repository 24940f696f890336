-- The run's checkpoint and all its entries in order, the ones that were set aside too. A run without entries gives one
-- row whose index is NULL; a run that does not exist gives none.
-- Locks: none. Index: run_pkey, entry_pkey.
SELECT coalesce(r.base, 0), coalesce(r.prologue, 0), e.index, e.kind, e.key, e.fingerprint, e.status, e.attempt, e.value,
    e.due_at, e.named, e.recorded_at
FROM {schema}.run r
LEFT JOIN {schema}.entry e ON e.run_id = r.run_id AND e.index >= coalesce(r.floor, 0)
WHERE r.run_id = %(run_id)s::uuid
ORDER BY e.index
