-- How a run goes on as new, or from a checkpoint: what it leaves behind is forgotten, a bounded part of it at a time.

-- Runs that have entries which nobody reads: of earlier passes, below `floor` of their row, or of closed segments, from
-- `prologue` until below `base`, but for those that the author named. One row for each time that some were left, so that
-- what is left while others are swept is never taken for swept.
CREATE TABLE {schema}.former (
    id bigint GENERATED ALWAYS AS IDENTITY,
    run_id uuid NOT NULL,
    CONSTRAINT former_pkey PRIMARY KEY (id)
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
        AND EXISTS (SELECT 1 FROM {schema}.entry e WHERE e.run_id = r.run_id AND e.index < r.floor);
END
$function$;

-- In the commit of checkpoints: each closes the segment that began at `p_closed` and ends before its `p_base`. So many
-- entries of each are deleted here; what is left of a longer one by the care of any worker. Only for functions that hold
-- a fence; `p_landed` are the runs whose rows were changed, in their order.
CREATE FUNCTION {schema}.forget_segments(
    p_runs uuid[], p_closed integer[], p_base integer[], p_landed uuid[], p_limit integer
) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
BEGIN
    WITH old AS MATERIALIZED (
        SELECT s.run, o.index
        FROM unnest(p_runs, p_closed, p_base) AS s(run, closed, base)
        CROSS JOIN LATERAL (
            SELECT e.index FROM {schema}.entry e
            WHERE e.run_id = s.run AND e.index >= s.closed AND e.index < s.base AND NOT e.named
            ORDER BY e.index LIMIT p_limit
        ) o
        WHERE s.closed IS NOT NULL AND p_landed[width_bucket(s.run, p_landed)] = s.run
    )
    DELETE FROM {schema}.entry e USING old o WHERE e.run_id = ANY (ARRAY[o.run]) AND e.index = o.index;
    INSERT INTO {schema}.former (run_id)
    SELECT s.run FROM unnest(p_runs, p_closed, p_base) AS s(run, closed, base)
    WHERE s.base - s.closed > p_limit AND p_landed[width_bucket(s.run, p_landed)] = s.run;
END
$function$;

-- Delete entries of some run that nobody reads any more. Gives how many, NULL when there is no such run.
CREATE FUNCTION {schema}.sweep_former(p_limit integer) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
DECLARE
    last bigint;
    one uuid;
    deleted integer;
BEGIN
    SELECT f.id, f.run_id INTO last, one FROM {schema}.former f ORDER BY f.id LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF one IS NULL THEN
        RETURN NULL;
    END IF;
    WITH old AS MATERIALIZED (
        SELECT o.index
        FROM (
            SELECT coalesce(r.floor, 0) AS floor, r.prologue, r.base FROM {schema}.run r WHERE r.run_id = one OFFSET 0
        ) r
        CROSS JOIN LATERAL (
            SELECT e.index FROM {schema}.entry e
            WHERE e.run_id = one AND e.index < greatest(r.floor, r.base)
                AND (e.index < r.floor OR (e.index >= r.prologue AND NOT e.named))
            ORDER BY e.index LIMIT p_limit
        ) o
    )
    DELETE FROM {schema}.entry e USING old o WHERE e.run_id = one AND e.index = o.index;
    GET DIAGNOSTICS deleted = ROW_COUNT;
    IF deleted < p_limit THEN
        DELETE FROM {schema}.former f WHERE f.id = last;
    END IF;
    RETURN deleted;
END
$function$;
