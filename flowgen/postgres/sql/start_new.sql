-- Insert runs whose run_ids were made for this very statement, all or none. None is asked whether it exists, which
-- takes a fifth of the time; one that does is an error.
-- Every name is qualified: it runs on connections of callers, whatever their search_path is.
-- Locks: the new rows only. Index: none.
-- Gives one row: the time of the database, and whether a worker is idle, so that nobody has to ask for that when none
-- is.
WITH given AS (
    SELECT g.*, coalesce(g.at, c.now OPERATOR(pg_catalog.+) g.delay, c.now) AS wake,
        c.now OPERATOR(pg_catalog.+) g.lasts AS deadline, c.now
    FROM (SELECT {schema}.clock() AS now) c
    CROSS JOIN ROWS FROM (
        pg_catalog.unnest(%(run_ids)b::pg_catalog.uuid[]), pg_catalog.unnest(%(ids)b::pg_catalog.text[]),
        pg_catalog.unnest(%(names)b::pg_catalog.text[]), pg_catalog.unnest(%(kinds)b::pg_catalog.text[]),
        pg_catalog.unnest(%(queues)b::pg_catalog.text[]), pg_catalog.unnest(%(priorities)b::pg_catalog.int4[]),
        pg_catalog.unnest(%(inputs)b::pg_catalog.text[]), pg_catalog.unnest(%(delays)b::pg_catalog.interval[]),
        pg_catalog.unnest(%(ats)b::pg_catalog.timestamptz[]), pg_catalog.unnest(%(deadlines)b::pg_catalog.interval[]),
        pg_catalog.unnest(%(tags)b::pg_catalog.text[]), pg_catalog.unnest(%(correlation_ids)b::pg_catalog.text[]),
        pg_catalog.unnest(%(triggers)b::pg_catalog.text[])
    ) AS g (run_id, id, name, kind, queue, priority, input, delay, at, lasts, tags, correlation_id, trigger)
), inserted AS (
    INSERT INTO {schema}.run (
        run_id, created_at, priority, deadline, due_at, status, queue, name, kind, input, id, correlation_id, tags,
        trigger
    )
    SELECT run_id, now, priority, deadline,
        CASE WHEN wake OPERATOR(pg_catalog.>) now THEN least(wake, deadline) ELSE now END,
        CASE WHEN wake OPERATOR(pg_catalog.>) now THEN 1 ELSE 0 END,
        queue, name, kind, input::pg_catalog.json, id, correlation_id, tags::pg_catalog.text[], trigger::pg_catalog.json
    FROM given
)
SELECT {schema}.clock(),
    EXISTS (
        SELECT 1 FROM {schema}.worker w
        WHERE w.idle AND NOT w.dead AND w.lease_until OPERATOR(pg_catalog.>) {schema}.clock()
    )
