-- Ready runs become this session's, with their histories and inbox.
-- Locks: the worker row FOR KEY SHARE; an advisory one for each queue (try); rows of run FOR NO KEY UPDATE SKIP LOCKED.
-- Index: worker_pkey, run_ready, run_suspect, run_future, entry_pkey, inbox_pkey.
SELECT * FROM {schema}.claim(
    %(session)b, %(epoch)b, %(queues)b::text[], %(limit)b, %(suspect)b, %(bare)b, %(have)s::jsonb, %(run_bytes)b,
    %(batch_bytes)b, %(since)b::timestamptz
)
