-- The outcome of a Transaction command, in the same commit as the user's writes; an error takes both back.
-- Locks: the worker row FOR KEY SHARE. Index: worker_pkey.
SELECT {schema}.finish_transaction(
    %(session)b, %(epoch)b, %(token)b, %(e_run)b, %(e_index)b, %(e_facts)b, %(e_key)b, %(e_fingerprint)b,
    %(e_attempt)b, %(e_value)b, %(e_due)b, %(e_delay)b
)
