-- Listen on the schema's channel; not behind a transaction-mode pooler.
-- Locks: none. Index: none.
LISTEN {channel}
