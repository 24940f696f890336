-- Create, replace or remove schedules, given as JSON.
-- Locks: schedule rows in the order of target and name. Index: schedule_name.
SELECT {schema}.change_schedules(%(schedules)s::text, NULL)
