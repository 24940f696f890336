-- A failed run goes on: ready again, with a message that says who asked and whether from scratch. A deadline that has
-- passed is dropped, as it would end the run at once; recoveries start at none.
-- Children that ended while nobody was there to be told, or whose letter went with the inbox, are told of anew.
-- Locks: the run's row. Index: run_pkey, entry_pkey.
WITH retried AS (
    UPDATE {schema}.run r
    SET status = 0, finished_at = NULL, error = NULL, output = NULL, request = NULL, reason = NULL, cascade = NULL,
        attempt = r.attempt + 1, recoveries = 0, recovered_index = NULL, stalls = NULL, mail = r.mail + 1, due_at = c.now,
        deadline = CASE WHEN r.deadline > c.now THEN r.deadline END
    FROM (SELECT {schema}.clock() AS now) c
    WHERE r.run_id = %(run_id)s::uuid AND r.status = 8
    RETURNING r.run_id, c.now, r.floor
), told AS (
    INSERT INTO {schema}.inbox (run_id, created_at, kind, key, payload)
    SELECT run_id, now, 5, '', %(payload)s::text FROM retried
), made AS (
    SELECT DISTINCT e.run_id, d.now, e.key,
        CASE e.kind WHEN 5 THEN pg_catalog.btrim(e.value, '"') ELSE e.value::json ->> 'run_id' END::uuid AS child
    FROM retried d JOIN {schema}.entry e ON e.run_id = d.run_id AND e.index >= coalesce(d.floor, 0)
    WHERE e.kind = 5 AND NOT EXISTS (
            SELECT FROM {schema}.entry o WHERE o.run_id = e.run_id AND o.key = e.key AND o.kind = 1 AND o.index > e.index
        ) OR e.kind = 1 AND e.status = 1 AND pg_catalog.starts_with(e.fingerprint, 'start:')
), ended AS (
    INSERT INTO {schema}.inbox (run_id, created_at, kind, key, payload)
    SELECT m.run_id, m.now, 1, m.key, '{"status":"' || CASE c.status
            WHEN 7 THEN 'completed","output":' || coalesce(c.output, 'null')
            WHEN 8 THEN 'failed","error":' || coalesce(c.error, 'null')
            ELSE 'cancelled","error":' || coalesce(c.error, 'null') END
        || ',"run_id":"' || c.run_id || '"}'
    FROM made m JOIN {schema}.run c ON c.run_id = m.child
    WHERE c.status >= 7
), audited AS (
    INSERT INTO {schema}.audit (at, run_id, action, subject, who, reason, details)
    SELECT now, run_id, %(action)s::text, %(subject)s::text, %(who)s::text, %(reason)s::text, %(payload)s::json
    FROM retried
)
SELECT run_id FROM retried
