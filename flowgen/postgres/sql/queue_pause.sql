-- Pause or resume a queue; claims heed it at once, `hold` and `put_back` move the rows.
-- Locks: the queue's row. Index: queue_pkey.
WITH changed AS (
    INSERT INTO {schema}.queue AS q (name, paused, changed_at) VALUES (%(name)b, %(paused)b, {schema}.clock())
    ON CONFLICT (name) DO UPDATE SET paused = excluded.paused, changed_at = excluded.changed_at
    WHERE q.paused <> excluded.paused
    RETURNING q.name, q.paused
)
INSERT INTO {schema}.audit (at, action, subject, who, reason)
SELECT {schema}.clock(), CASE WHEN c.paused THEN 'queue paused' ELSE 'queue resumed' END, c.name, %(who)s::text,
    %(reason)s::text
FROM changed c
RETURNING id
