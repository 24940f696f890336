-- Schedules that are due, for this transaction only. `live`: the run of the last tick has not ended.
-- Locks: schedule rows FOR UPDATE SKIP LOCKED. Index: schedule_due, run_pkey.
SELECT s.schedule_id, s.target, s.name, s.cron, s.timezone, s.input::text, s.queue, s.priority, s.kind, s.origin,
    s.overlap, s.paused, s.next_at, s.last_at, {schema}.clock(), s.last_run_id,
    coalesce((SELECT r.status FROM {schema}.run r WHERE r.run_id = s.last_run_id) < 7, false)
FROM {schema}.schedule s
WHERE NOT s.paused AND s.next_at <= {schema}.clock()
ORDER BY s.next_at, s.schedule_id LIMIT %(limit)b
FOR UPDATE OF s SKIP LOCKED
