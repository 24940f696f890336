-- Record entries and consume messages of running runs: the commit between two steps.
-- Locks: the worker row FOR KEY SHARE. Index: worker_pkey; inbox_pkey for what is consumed.
SELECT fenced, at, due_run, due_index, due FROM {schema}.flush_entries(
    %(session)b, %(epoch)b, %(e_run)b, %(e_index)b, %(e_facts)b, %(e_key)b, %(e_fingerprint)b, %(e_attempt)b,
    %(e_value)b, %(e_due)b, %(e_delay)b, %(c_run)b, %(c_id)b
)
