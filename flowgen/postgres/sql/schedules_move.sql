-- The ticks' runs and the schedules' next times, in the transaction of schedules_due.
-- Locks: the schedule rows are held already. Index: schedule_pkey, run_pkey.
WITH moved AS (
    UPDATE {schema}.schedule s SET
        next_at = m.next_at, last_at = s.next_at, last_run_id = coalesce(m.run_id, s.last_run_id)
    FROM ROWS FROM (
        pg_catalog.unnest(%(schedule)b), pg_catalog.unnest(%(next_at)b), pg_catalog.unnest(%(run)b),
        pg_catalog.unnest(%(trigger)b)
    ) AS m (schedule_id, next_at, run_id, trigger)
    WHERE s.schedule_id = m.schedule_id
    RETURNING m.run_id, m.trigger, s.target, s.kind, s.queue, s.priority, s.input
)
INSERT INTO {schema}.run (run_id, created_at, name, kind, queue, priority, input, trigger, status, due_at)
SELECT m.run_id, {schema}.clock(), m.target, m.kind, m.queue, m.priority, m.input, m.trigger::json, 0,
    {schema}.clock()
FROM moved m WHERE m.run_id IS NOT NULL
ON CONFLICT (run_id) DO NOTHING
RETURNING run_id
