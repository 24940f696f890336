-- After a commit whose outcome is unknown: FOR UPDATE waits for what is in flight, and what comes later is refused for
-- its old epoch.
-- Locks: the worker row FOR UPDATE. Index: worker_pkey.
UPDATE {schema}.worker SET epoch = epoch + 1
WHERE worker_id = (SELECT w.worker_id FROM {schema}.worker w WHERE w.worker_id = %(session)b FOR UPDATE)
    AND epoch = %(epoch)b AND NOT dead
RETURNING epoch
