-- Tests only: the leases of live sessions go along with the clock, so that advancing it ends none.
-- Locks: the rows of live workers FOR NO KEY UPDATE. Index: none, a few rows.
UPDATE {schema}.worker SET lease_until = lease_until
    + (%(seconds)b - coalesce((SELECT o.seconds FROM {schema}.clock_offset o LIMIT 1), 0)) * interval '1 second'
WHERE NOT dead
