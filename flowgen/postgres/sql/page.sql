-- The next page of a history that is too large for a claim, as one cell. Read by the owner of the run.
-- Locks: none. Index: entry_pkey.
SELECT json_agg(json_build_array(e.index, e.kind, e.key, e.fingerprint, e.status, e.attempt,
        (extract(epoch FROM e.due_at) * 1000000)::bigint, e.named, e.value,
        (date_part('epoch', e.recorded_at) * 1000000)::bigint) ORDER BY e.index)::text
FROM (
    SELECT p.*, row_number() OVER w AS place, sum(200 + length(p.key) + coalesce(octet_length(p.value), 0)) OVER w AS size
    FROM (
        SELECT a.* FROM {schema}.entry a
        WHERE a.run_id = %(run)b AND a.index > %(after)b::integer
            AND (a.index < %(prologue)b::integer OR a.index >= %(base)b::integer OR a.named)
        ORDER BY a.index LIMIT %(limit)b
    ) p
    WINDOW w AS (ORDER BY p.index)
) e
WHERE e.place = 1 OR e.size <= %(bytes)b
