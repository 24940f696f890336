-- The second commit of reaping: FOR UPDATE is had only when no flush of a dead session is in flight any more.
-- Locks: worker rows FOR UPDATE SKIP LOCKED. Index: none, a few rows.
UPDATE {schema}.worker SET quiet = true
WHERE worker_id IN (SELECT w.worker_id FROM {schema}.worker w WHERE w.dead AND NOT w.quiet FOR UPDATE SKIP LOCKED)
RETURNING worker_id
