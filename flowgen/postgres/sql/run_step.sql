-- Tell a run that has not ended what an operator decided about one of its commands.
-- Locks: the run's row. Index: run_pkey.
WITH told AS MATERIALIZED (
    SELECT d.run_id
    FROM {schema}.deliver(ARRAY[%(run_id)s::uuid], ARRAY[5], ARRAY[''], ARRAY[%(payload)s::text]) d
    WHERE d.told
), audited AS (
    INSERT INTO {schema}.audit (at, run_id, action, subject, who, reason, details)
    SELECT {schema}.clock(), run_id, %(action)s::text, %(subject)s::text, %(who)s::text, %(reason)s::text, %(payload)s::json
    FROM told
)
SELECT run_id FROM told
