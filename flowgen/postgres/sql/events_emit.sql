-- Insert events, given as JSON, and start the runs that they trigger.
-- Locks: none but of what it inserts. Index: event_pkey, event_trigger_event, run_pkey.
SELECT {schema}.emit_events(%(events)s::json, NULL)
