-- A signal of one run to another, with the outcome of its command.
-- Locks: the worker row FOR KEY SHARE; the rows of both runs in the order of run_id FOR NO KEY UPDATE.
-- Index: worker_pkey, run_pkey.
SELECT what, at, name, status FROM {schema}.send_signal(
    %(session)b, %(epoch)b, %(claim)b, %(e_run)b, %(e_index)b, %(e_facts)b, %(e_key)b, %(e_fingerprint)b,
    %(e_attempt)b, %(e_value)b, %(e_due)b, %(e_delay)b, %(sender)b, %(to)b::uuid[], %(name)b, %(payload)b
)
