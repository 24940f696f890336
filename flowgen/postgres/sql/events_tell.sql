-- New events get their places, waits their events.
-- Locks: the schema's advisory lock of events; rows of event_wait in the order of run_id and key; rows of run in the
-- order of run_id SKIP LOCKED. Index: event_new, event_age, event_known, event_wait_fresh, event_wait_name, run_pkey.
SELECT busy, waits, more FROM {schema}.tell_events(%(limit)b)
