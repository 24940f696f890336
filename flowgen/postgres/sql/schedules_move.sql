-- The ticks' runs and the schedules' next times, in the transaction of schedules_due.
-- Locks: the schedule rows are held already. Index: schedule_pkey, run_pkey.
WITH moved AS (
    UPDATE {schema}.schedule s SET
        next_at = m.next_at, last_at = s.next_at, last_run_id = coalesce(m.run_id, s.last_run_id)
    FROM unnest(%(schedule)b, %(next_at)b, %(run)b) AS m (schedule_id, next_at, run_id)
    WHERE s.schedule_id = m.schedule_id
    RETURNING s.schedule_id, m.run_id, s.target, s.name, s.kind, s.queue, s.priority, s.input, s.last_at
)
INSERT INTO {schema}.run (run_id, created_at, name, kind, queue, priority, input, trigger, status, due_at)
SELECT m.run_id, {schema}.clock(), m.target, m.kind, m.queue, m.priority, m.input,
    json_build_object('kind', 'cron', 'name', m.name, 'scheduled_at', to_json(m.last_at AT TIME ZONE 'UTC')::text),
    0, {schema}.clock()
FROM moved m WHERE m.run_id IS NOT NULL
ON CONFLICT (run_id) DO NOTHING
RETURNING run_id
