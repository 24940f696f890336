-- Read runs by their UUIDs.
-- Locks: none. Index: run_pkey.
SELECT run_id, id, name, kind, status, queue, priority, input::text, output::text, error::text, attempt, recoveries,
    parent_id, coalesce(root_id, run_id), correlation_id, parent_correlation_id, coalesce(tags, '{}'), trigger::text,
    progress::text, progress_at, reports::text, created_at, started_at, finished_at,
    CASE WHEN status < 7 THEN due_at END, deadline, owner, coalesce(request, 0), mail, first_input::text
FROM {schema}.run
WHERE run_id = ANY(%(run_ids)b::uuid[])
