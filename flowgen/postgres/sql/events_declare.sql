-- The event triggers of some definitions, given as JSON.
-- Locks: rows of event_trigger in the order of target and number. Index: event_trigger_pkey.
SELECT {schema}.declare_triggers(%(targets)s::text[], %(triggers)s::json)
