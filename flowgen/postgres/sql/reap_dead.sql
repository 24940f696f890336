-- The first commit of reaping: sessions whose lease is over, or of before a failover, are dead. Changes no key, so it
-- waits for no flush.
-- Locks: worker rows FOR NO KEY UPDATE. Index: none, a few rows.
UPDATE {schema}.worker SET dead = true
WHERE NOT dead AND (
    lease_until < {schema}.clock()
    OR timeline <> {schema}.timeline() OR system_identifier <> {schema}.system_identifier()
)
RETURNING worker_id
