-- A session ends by its own will: nothing of it is in flight, and what it still owns is for the reaper.
-- Locks: the worker row FOR NO KEY UPDATE. Index: worker_pkey.
UPDATE {schema}.worker SET dead = true, idle = false WHERE worker_id = %(session)b AND NOT dead RETURNING worker_id
