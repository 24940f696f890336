-- Extend the lease of one session. Changes no key, so it never waits for a flush that holds the row FOR KEY SHARE. A
-- lease that is over but that nobody has declared dead goes on: its runs are still its own.
-- Locks: the worker row FOR NO KEY UPDATE. Index: worker_pkey.
UPDATE {schema}.worker SET lease_until = {schema}.clock() + %(lease)b
WHERE worker_id = %(session)b AND NOT dead
    AND timeline = {schema}.timeline() AND system_identifier = {schema}.system_identifier()
RETURNING lease_until, {schema}.clock()
