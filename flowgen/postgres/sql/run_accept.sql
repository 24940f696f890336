-- A run that is parked goes on with the code as it is; the message tells its handler's next start what was accepted.
-- Locks: the run's row. Index: run_pkey.
WITH accepted AS (
    UPDATE {schema}.run r
    SET status = 0, error = NULL, mail = r.mail + 1, due_at = c.now
    FROM (SELECT {schema}.clock() AS now) c
    WHERE r.run_id = %(run_id)s::uuid AND r.status = 6
    RETURNING r.run_id, c.now
), told AS (
    INSERT INTO {schema}.inbox (run_id, created_at, kind, key, payload)
    SELECT run_id, now, 6, '', %(payload)s::text FROM accepted
), audited AS (
    INSERT INTO {schema}.audit (at, run_id, action, who, reason)
    SELECT now, run_id, 'accept', %(who)s::text, %(reason)s::text FROM accepted
)
SELECT run_id FROM accepted
