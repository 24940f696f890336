-- Tell idle workers that there may be something to do; nothing is sent while none says that it is idle.
-- Locks: the notification queue's, at commit. Index: none, a few rows.
SELECT pg_catalog.pg_notify(%(channel)s, %(payload)s)
WHERE EXISTS (
    SELECT 1 FROM {schema}.worker w
    WHERE w.idle AND NOT w.dead AND w.lease_until OPERATOR(pg_catalog.>) {schema}.clock()
)
