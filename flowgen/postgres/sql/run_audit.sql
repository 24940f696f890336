-- What was decided about a run, in order.
-- Locks: none. Index: audit_run.
SELECT a.at, a.action, a.subject, a.who, a.reason FROM {schema}.audit a WHERE a.run_id = %(run_id)s::uuid ORDER BY a.id
