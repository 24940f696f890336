-- Give a run that has not ended a new deadline, counted from now.
-- A waiting run wakes: its `due_at` is the sooner of its timer and its deadline, and only its code knows the timer. A
-- running one is told by its mail counter, which grows without a message.
-- Locks: the run's row. Index: run_pkey.
WITH moved AS (
    UPDATE {schema}.run r
    SET deadline = c.now + %(lasts)s::interval,
        status = CASE WHEN r.status = 4 THEN 0 ELSE r.status END,
        due_at = CASE
            WHEN r.status = 4 THEN c.now
            WHEN r.status = 1 THEN least(r.due_at, c.now + %(lasts)s::interval)
            ELSE r.due_at
        END,
        mail = r.mail + CASE WHEN r.status = 3 THEN 1 ELSE 0 END
    FROM (SELECT {schema}.clock() AS now) c
    WHERE r.run_id = %(run_id)s::uuid AND r.status < 7
    RETURNING r.run_id, r.deadline, c.now
), audited AS (
    INSERT INTO {schema}.audit (at, run_id, action, who, details)
    SELECT now, run_id, 'set_deadline', %(who)s::text, pg_catalog.json_build_object('deadline', deadline) FROM moved
)
SELECT run_id FROM moved
