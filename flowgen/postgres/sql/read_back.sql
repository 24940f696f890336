-- What has landed of a flush whose commit is unknown: the rows, and the highest entry of each.
-- Locks: none; its snapshot has to be younger than the bump of the epoch. Index: run_pkey, entry_pkey.
SELECT r.run_id, r.status::integer, r.owner, r.claim,
    (SELECT e.index FROM {schema}.entry e WHERE e.run_id = r.run_id ORDER BY e.index DESC LIMIT 1)
FROM {schema}.run r WHERE r.run_id = ANY (%(runs)b)
