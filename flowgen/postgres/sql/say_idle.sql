-- A worker says that it wants a notification, or that it does not.
-- Locks: the worker row FOR NO KEY UPDATE. Index: worker_pkey.
UPDATE {schema}.worker SET idle = %(idle)b WHERE worker_id = %(session)b AND idle <> %(idle)b AND NOT dead
