-- Insert runs whose run_ids were made for this very statement, all or none. None is asked whether it exists, which
-- takes a fifth of the time; one that does is an error.
-- Locks: the new rows only. Index: none.
-- Gives one row: the time of the database, and whether a worker is idle, so that nobody has to ask for that when none
-- is.
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
)
SELECT {schema}.clock(),
    EXISTS (SELECT 1 FROM {schema}.worker w WHERE w.idle AND NOT w.dead AND w.lease_until > {schema}.clock())
