-- A new worker session, on this server and timeline; fails on a standby.
-- Locks: none. Index: worker_pkey.
INSERT INTO {schema}.worker (
    worker_id, lease_until, started_at, system_identifier, timeline, host, pid, versions, queues, names
)
VALUES (
    %(session)b, {schema}.clock() + %(lease)b, {schema}.clock(), {schema}.system_identifier(), {schema}.timeline(),
    %(host)b, %(pid)b, %(versions)s::json, %(queues)s::text[], %(names)b::text[]
)
RETURNING epoch, lease_until, {schema}.clock(), system_identifier, timeline
