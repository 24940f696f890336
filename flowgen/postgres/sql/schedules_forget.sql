-- Remove the schedules that code declared for these definitions, but those that it declares now.
-- Locks: schedule rows in the order of target and name. Index: schedule_name.
DELETE FROM {schema}.schedule d
USING (
    SELECT s.schedule_id FROM {schema}.schedule s
    WHERE s.target = ANY (%(targets)b) AND s.origin = 'code' AND NOT EXISTS (
        SELECT FROM ROWS FROM (pg_catalog.unnest(%(target)b), pg_catalog.unnest(%(name)b)) AS k (target, name)
        WHERE k.target = s.target AND k.name = s.name
    )
    ORDER BY s.target, s.name
    FOR UPDATE
) gone
WHERE d.schedule_id = gone.schedule_id
