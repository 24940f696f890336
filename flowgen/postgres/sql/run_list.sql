-- One page of runs that match, in one of ten orders, after a cursor.
-- Locks: none. Index: run_children for a parent; otherwise the table is read. The conditions and the order are written
-- so that the values fold them away when the statement is planned: what is not asked for costs nothing.
-- A time that is not set sorts last, both ways.
SELECT run_id, id, name, kind, status, queue, priority, input::text, output::text, error::text, attempt, recoveries,
    parent_id, coalesce(root_id, run_id), correlation_id, parent_correlation_id, coalesce(tags, '{}'), trigger::text,
    progress::text, progress_at, reports::text, created_at, started_at, finished_at,
    CASE WHEN status < 7 THEN due_at END, deadline, owner, coalesce(request, 0), mail, first_input::text
FROM (
    SELECT *,
        CASE %(sort)s::text
            WHEN 'created_at' THEN created_at
            WHEN 'started_at' THEN coalesce(started_at, %(never)s::timestamptz)
            WHEN 'finished_at' THEN coalesce(finished_at, %(never)s::timestamptz)
        END AS time_key,
        CASE %(sort)s::text WHEN 'name' THEN name END COLLATE "C" AS name_key,
        CASE %(sort)s::text WHEN 'status' THEN status END AS status_key
    FROM {schema}.run
) AS keyed
WHERE (%(statuses)b::int4[] IS NULL OR status = ANY(%(statuses)b::int4[]))
    AND (%(names)b::text[] IS NULL OR name = ANY(%(names)b::text[]))
    AND (%(kind)s::text IS NULL OR kind = %(kind)s::text)
    AND (%(parents)b::uuid[] IS NULL OR parent_id = ANY(%(parents)b::uuid[]))
    AND (NOT %(root_only)s::bool OR parent_id IS NULL)
    AND (%(queues)b::text[] IS NULL OR queue = ANY(%(queues)b::text[]))
    AND (%(tags)b::text[] IS NULL OR tags OPERATOR(pg_catalog.@>) %(tags)b::text[])
    AND (
        %(after_id)s::uuid IS NULL
        OR CASE %(after_by)s::text
            WHEN 'time' THEN (time_key, run_id) > (%(after_time)s::timestamptz, %(after_id)s::uuid)
            WHEN 'name' THEN (name_key, run_id) > (%(after_name)s::text COLLATE "C", %(after_id)s::uuid)
            WHEN 'status' THEN (status_key, run_id) > (%(after_status)s::int4, %(after_id)s::uuid)
            WHEN '-time' THEN (time_key, run_id) < (%(after_time)s::timestamptz, %(after_id)s::uuid)
            WHEN '-name' THEN (name_key, run_id) < (%(after_name)s::text COLLATE "C", %(after_id)s::uuid)
            WHEN '-status' THEN (status_key, run_id) < (%(after_status)s::int4, %(after_id)s::uuid)
        END
    )
ORDER BY
    CASE WHEN NOT %(down)s::bool THEN time_key END,
    CASE WHEN %(down)s::bool THEN time_key END DESC,
    CASE WHEN NOT %(down)s::bool THEN name_key END,
    CASE WHEN %(down)s::bool THEN name_key END DESC,
    CASE WHEN NOT %(down)s::bool THEN status_key END,
    CASE WHEN %(down)s::bool THEN status_key END DESC,
    CASE WHEN NOT %(down)s::bool THEN run_id END,
    CASE WHEN %(down)s::bool THEN run_id END DESC
LIMIT %(limit)s::int8 OFFSET %(offset)s::int8
