-- A failed run goes on: ready again, with a message that says who asked and whether from scratch. A deadline that has
-- passed is dropped, as it would end the run at once; recoveries start at none.
-- Locks: the run's row. Index: run_pkey.
WITH retried AS (
    UPDATE {schema}.run r
    SET status = 0, finished_at = NULL, error = NULL, output = NULL, request = NULL, reason = NULL, cascade = NULL,
        attempt = r.attempt + 1, recoveries = 0, recovered_index = NULL, stalls = NULL, mail = r.mail + 1, due_at = c.now,
        deadline = CASE WHEN r.deadline > c.now THEN r.deadline END
    FROM (SELECT {schema}.clock() AS now) c
    WHERE r.run_id = %(run_id)s::uuid AND r.status = 8
    RETURNING r.run_id, c.now
), told AS (
    INSERT INTO {schema}.inbox (run_id, created_at, kind, key, payload)
    SELECT run_id, now, 5, '', %(payload)s::text FROM retried
), audited AS (
    INSERT INTO {schema}.audit (at, run_id, action, who, details)
    SELECT now, run_id, 'retry', %(who)s::text, %(payload)s::json FROM retried
)
SELECT run_id FROM retried
