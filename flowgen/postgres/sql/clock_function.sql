-- Tests only: the clock of every statement is off by what the table says.
-- Locks: none that matter. Index: none.
CREATE OR REPLACE FUNCTION {schema}.clock() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
AS $function$
    SELECT pg_catalog.statement_timestamp() + coalesce(
        (SELECT o.seconds FROM {schema}.clock_offset o LIMIT 1), 0
    ) * interval '1 second'
$function$
