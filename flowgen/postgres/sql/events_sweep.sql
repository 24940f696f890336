-- Delete events that are kept for long enough, and the waits of runs that have ended.
-- Locks: the rows that it deletes, SKIP LOCKED. Index: event_age, event_wait_pkey, run_pkey.
SELECT events, after FROM {schema}.sweep_events(%(keep)s, %(after)b, %(limit)b)
