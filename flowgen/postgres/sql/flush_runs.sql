-- Entries, consumed messages, and changes of the runs' own rows with the wakes of their parents.
-- Locks: the worker row FOR KEY SHARE; then rows of run in the order of run_id FOR NO KEY UPDATE SKIP LOCKED, or by
-- their update, which waits 2 ms.
-- Index: worker_pkey, run_pkey, entry_pkey, inbox_pkey.
SELECT fenced, at, due_run, due_index, due, skipped, landed, landed_status, adopted FROM {schema}.flush(
    %(session)b, %(epoch)b, %(e_run)b, %(e_index)b, %(e_facts)b, %(e_key)b, %(e_fingerprint)b, %(e_attempt)b,
    %(e_value)b, %(e_due)b, %(e_delay)b, %(c_run)b, %(c_id)b,
    %(r_run)b, %(r_action)b, %(r_claim)b, %(r_due)b, %(r_delay)b, %(r_mail_read)b, %(r_wake)b, %(r_base)b,
    %(r_prologue)b, %(r_output)b, %(r_error)b, %(r_input)b, %(r_progress)b, %(r_reports)b, %(r_lasts)b,
    %(r_parent)b, %(r_parent_key)b, %(r_letters)b, %(r_closed)b, p_eager => %(eager)b
)
