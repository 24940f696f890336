-- Insert runs that nobody has begun: one or thousands, all or none.
-- Locks: the new rows only, in run_id order, so that two bulk starts with the same ids wait and do not deadlock.
-- Index: run_pkey decides what exists already; those rows are left as they are.
-- Gives one row: the time of the database, the run_ids with an author's id that were inserted, and whether a worker is
-- idle, so that nobody has to ask for that when none is.
WITH given AS (
    SELECT g.*, coalesce(g.at, c.now + g.delay, c.now) AS wake, c.now + g.lasts AS deadline, c.now
    FROM (SELECT {schema}.clock() AS now) c
    CROSS JOIN ROWS FROM (
        unnest(%(run_ids)b::uuid[]), unnest(%(ids)b::text[]), unnest(%(names)b::text[]), unnest(%(kinds)b::text[]),
        unnest(%(queues)b::text[]), unnest(%(priorities)b::int4[]), unnest(%(inputs)b::text[]),
        unnest(%(delays)b::interval[]), unnest(%(ats)b::timestamptz[]), unnest(%(deadlines)b::interval[]),
        unnest(%(tags)b::text[]), unnest(%(correlation_ids)b::text[]), unnest(%(triggers)b::text[])
    ) AS g (run_id, id, name, kind, queue, priority, input, delay, at, lasts, tags, correlation_id, trigger)
), inserted AS (
    INSERT INTO {schema}.run (
        run_id, created_at, priority, deadline, due_at, status, queue, name, kind, input, id, correlation_id, tags,
        trigger
    )
    SELECT run_id, now, priority, deadline,
        CASE WHEN wake > now THEN least(wake, deadline) ELSE now END,
        CASE WHEN wake > now THEN 1 ELSE 0 END,
        queue, name, kind, input::json, id, correlation_id, tags::text[], trigger::json
    FROM given
    ORDER BY run_id
    ON CONFLICT (run_id) DO NOTHING
    RETURNING run_id, id
)
SELECT {schema}.clock(), coalesce(array_agg(run_id) FILTER (WHERE id IS NOT NULL), '{}'),
    EXISTS (SELECT 1 FROM {schema}.worker w WHERE w.idle AND NOT w.dead AND w.lease_until > {schema}.clock())
FROM inserted
