-- A session ends: nothing of it is in flight, and what it still owns is for the reaper. With an excuse it ends by its own
-- will, and what it leaves is charged nothing.
-- Locks: the worker row FOR NO KEY UPDATE. Index: worker_pkey.
UPDATE {schema}.worker SET dead = true, idle = false, excuse = %(excuse)b
WHERE worker_id = %(session)b AND NOT dead RETURNING worker_id
