-- One child with an author's id: started, attached to the run that exists, or a conflict. Waits for locks.
-- Locks: the worker row FOR KEY SHARE; the rows of parent and child in the order of run_id FOR NO KEY UPDATE.
-- Index: worker_pkey, run_pkey, waiter_pkey.
SELECT what, at, name, input, due_run, due_index, due FROM {schema}.attach_child(
    %(session)b, %(epoch)b, %(claim)b, %(e_run)b, %(e_index)b, %(e_facts)b, %(e_key)b, %(e_fingerprint)b,
    %(e_attempt)b, %(e_value)b, %(e_due)b, %(e_delay)b, %(run)b, %(id)s, %(kind)b, %(name)b, %(queue)b, %(priority)b,
    %(input)b, %(at)s, %(delay)s, %(deadline)s, %(tags)s, %(correlation)s, %(parent_correlation)s, %(parent)b,
    %(parent_key)b, %(root)s, %(depth)b, %(detached)b, %(trigger)s, %(wait)b
)
