-- Listen on the schema's channel; not behind a transaction-mode pooler.
LISTEN {channel}
