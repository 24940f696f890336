-- Pause or resume one schedule.
-- Locks: its row. Index: schedule_name.
UPDATE {schema}.schedule SET paused = %(paused)b WHERE target = %(target)b AND name = %(name)b RETURNING schedule_id
