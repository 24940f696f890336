-- Every schedule.
-- Locks: none. Index: none.
SELECT schedule_id, target, name, cron, timezone, input::text, queue, priority, kind, origin, overlap, paused, next_at,
    last_at
FROM {schema}.schedule ORDER BY target, name
