-- How many runs match.
-- Locks: none. Index: run_children for a parent; otherwise the table is read.
SELECT pg_catalog.count(*)
FROM {schema}.run
WHERE (%(statuses)b::int4[] IS NULL OR status = ANY(%(statuses)b::int4[]))
    AND (%(names)b::text[] IS NULL OR name = ANY(%(names)b::text[]))
    AND (%(kind)s::text IS NULL OR kind = %(kind)s::text)
    AND (%(parents)b::uuid[] IS NULL OR parent_id = ANY(%(parents)b::uuid[]))
    AND (NOT %(root_only)s::bool OR parent_id IS NULL)
    AND (%(queues)b::text[] IS NULL OR queue = ANY(%(queues)b::text[]))
    AND (%(tags)b::text[] IS NULL OR tags OPERATOR(pg_catalog.@>) %(tags)b::text[])
