-- How a run goes on as new: what it leaves behind is forgotten, a bounded part of it at a time.

-- Runs that have entries of earlier passes: below `floor` of their row, and read by nobody.
CREATE TABLE {schema}.former (
    run_id uuid NOT NULL,
    CONSTRAINT former_pkey PRIMARY KEY (run_id)
);

-- In the commit in which runs go on as new: so many entries of each are deleted here, and what is left of them by the
-- care of any worker. What children of earlier passes came to is told to nobody. Only for functions that hold a fence.
CREATE FUNCTION {schema}.forget_passes(p_runs uuid[], p_limit integer) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
BEGIN
    DELETE FROM {schema}.inbox i WHERE i.run_id = ANY (p_runs) AND i.kind = 1;
    WITH old AS MATERIALIZED (
        SELECT r.run_id, o.index
        FROM {schema}.run r
        CROSS JOIN LATERAL (
            SELECT e.index FROM {schema}.entry e WHERE e.run_id = r.run_id AND e.index < r.floor
            ORDER BY e.index LIMIT p_limit
        ) o
        WHERE r.run_id = ANY (p_runs)
    )
    DELETE FROM {schema}.entry e USING old o WHERE e.run_id = ANY (ARRAY[o.run_id]) AND e.index = o.index;
    INSERT INTO {schema}.former (run_id)
    SELECT r.run_id FROM {schema}.run r
    WHERE r.run_id = ANY (p_runs)
        AND EXISTS (SELECT 1 FROM {schema}.entry e WHERE e.run_id = r.run_id AND e.index < r.floor)
    ON CONFLICT DO NOTHING;
END
$function$;

-- Delete entries of earlier passes of some run. Gives how many; call it until that is none.
CREATE FUNCTION {schema}.sweep_former(p_limit integer) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
DECLARE
    one uuid;
    deleted integer;
BEGIN
    SELECT f.run_id INTO one FROM {schema}.former f LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF one IS NULL THEN
        RETURN 0;
    END IF;
    WITH old AS MATERIALIZED (
        SELECT e.index FROM {schema}.entry e
        WHERE e.run_id = one AND e.index < (SELECT r.floor FROM {schema}.run r WHERE r.run_id = one)
        ORDER BY e.index LIMIT p_limit
    )
    DELETE FROM {schema}.entry e USING old o WHERE e.run_id = one AND e.index = o.index;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    IF deleted < p_limit THEN
        DELETE FROM {schema}.former f WHERE f.run_id = one;
    END IF;
    RETURN deleted;
END
$function$;
