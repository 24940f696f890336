-- What becomes of the runs of a session that is over, and when its end is counted against them.

-- A session whose process died may have died of one of its runs: each of them is charged a recovery. The session of a
-- process that lived has an `excuse` and charges nobody: it left by itself, or it could not reach the database. One that
-- was merely held up (`stall`) may have been held up by a run, so a run without progress is let off so `often` only.
-- The excuse may come after the charge, from the process itself: it takes the charge back.

-- The third commit of reaping: runs of dead sessions, of which no flush is in flight any more, are ready again.
-- A recovery without a new entry since the last one counts; the second in a row makes a suspect.
CREATE FUNCTION {schema}.release_lost(p_limit integer) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
DECLARE
    often constant integer := 3;
    lost uuid[];
    found_runs uuid[];
    released integer := 0;
BEGIN
    PERFORM {schema}.excuse(w.worker_id, w.excuse) FROM {schema}.worker w
    WHERE w.excuse IS NOT NULL AND w.charged IS NOT NULL;
    -- An excuse that comes now waits for this commit, and then finds what was charged.
    lost := ARRAY(
        SELECT w.worker_id FROM {schema}.worker w WHERE w.dead AND w.quiet AND NOT w.released
        FOR NO KEY UPDATE OF w SKIP LOCKED
    );
    IF cardinality(lost) = 0 THEN
        RETURN 0;
    END IF;
    found_runs := ARRAY(SELECT r.run_id FROM {schema}.run r WHERE r.status = 3 AND r.owner = ANY (lost) LIMIT p_limit);
    IF cardinality(found_runs) > 0 THEN
        WITH picked AS MATERIALIZED (
            SELECT r.run_id, r.owner, r.recovered_index, coalesce(r.stalls, 0) AS stalls FROM {schema}.run r
            WHERE r.run_id = ANY (found_runs) AND r.status + 0 = 3 AND r.owner = ANY (lost)
            ORDER BY r.run_id FOR NO KEY UPDATE OF r SKIP LOCKED
        ), progress AS MATERIALIZED (
            SELECT p.run_id, p.recovered_index, coalesce((
                SELECT e.index FROM {schema}.entry e WHERE e.run_id = p.run_id ORDER BY e.index DESC LIMIT 1
            ), -1) AS last FROM picked p
        ), judged AS MATERIALIZED (
            SELECT p.run_id, p.owner, g.last, f.fresh, CASE WHEN f.fresh THEN 0 ELSE p.stalls END AS stalls,
                CASE w.excuse WHEN 'stall' THEN NOT f.fresh AND p.stalls >= often ELSE w.excuse IS NULL END AS counts,
                w.excuse
            FROM picked p
            JOIN progress g ON g.run_id = p.run_id
            JOIN {schema}.worker w ON w.worker_id = ANY (ARRAY[p.owner])
            CROSS JOIN LATERAL (SELECT g.last > coalesce(g.recovered_index, -1) AS fresh) f
        ), freed AS (
            UPDATE {schema}.run AS r SET
                status = 0, owner = NULL, recovered_index = j.last,
                recoveries = least(
                    CASE WHEN j.fresh THEN 0 ELSE r.recoveries END + CASE WHEN j.counts THEN 1 ELSE 0 END, 9999),
                lost_with = CASE WHEN j.counts THEN
                    array_append(CASE WHEN NOT j.fresh AND r.recoveries > 0 THEN r.lost_with END, j.owner)
                    WHEN NOT j.fresh THEN r.lost_with END,
                stalls = nullif(j.stalls + CASE WHEN j.excuse = 'stall' AND NOT j.counts THEN 1 ELSE 0 END, 0)
            FROM judged j WHERE r.run_id = ANY (ARRAY[j.run_id])
            RETURNING r.run_id, j.owner, j.counts AND j.excuse IS NULL AS may_be_taken_back
        ), charged AS (
            UPDATE {schema}.worker AS w SET charged = w.charged || c.runs
            FROM (SELECT f.owner, array_agg(f.run_id) AS runs FROM freed f WHERE f.may_be_taken_back
                GROUP BY f.owner) c
            WHERE w.worker_id = ANY (ARRAY[c.owner])
        )
        SELECT count(*) INTO released FROM freed;
    END IF;
    UPDATE {schema}.worker AS w SET released = true
    WHERE w.worker_id = ANY (lost)
        AND (SELECT r.run_id FROM {schema}.run r WHERE r.status = 3 AND r.owner = w.worker_id LIMIT 1) IS NULL;
    DELETE FROM {schema}.worker w WHERE w.released AND w.lease_until < {schema}.clock() - interval '1 day';
    RETURN released;
END
$function$;

-- The process of a session that is over has lived: the session is dead at once, and what its end was counted for is
-- taken back. A run whose row is locked elsewhere is left for the next reaping. Gives the number of runs changed.
CREATE FUNCTION {schema}.excuse(p_lost uuid, p_excuse text) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
DECLARE
    often constant integer := 3;
    why text;
    runs uuid[];
    changed integer;
BEGIN
    UPDATE {schema}.worker AS w SET dead = true, idle = false, excuse = CASE
        WHEN w.timeline <> {schema}.timeline() OR w.system_identifier <> {schema}.system_identifier() THEN 'outage'
        ELSE p_excuse END
    WHERE w.worker_id = p_lost RETURNING w.excuse, w.charged INTO why, runs;
    IF runs IS NULL THEN
        RETURN 0;
    END IF;
    WITH picked AS MATERIALIZED (
        SELECT r.run_id FROM {schema}.run r
        WHERE r.run_id = ANY (runs) AND r.status + 0 < 7 AND p_lost = ANY (r.lost_with)
            AND (why <> 'stall' OR coalesce(r.stalls, 0) < often)
        ORDER BY r.run_id FOR NO KEY UPDATE OF r SKIP LOCKED
    )
    UPDATE {schema}.run AS r SET
        recoveries = greatest(r.recoveries - 1, 0),
        lost_with = nullif(array_remove(r.lost_with, p_lost), '{}'),
        stalls = CASE WHEN why = 'stall' THEN coalesce(r.stalls, 0) + 1 ELSE r.stalls END
    FROM picked p WHERE r.run_id = ANY (ARRAY[p.run_id]);
    GET DIAGNOSTICS changed = ROW_COUNT;
    UPDATE {schema}.worker AS w SET charged = (
        SELECT array_agg(r.run_id) FROM {schema}.run r
        WHERE r.run_id = ANY (runs) AND r.status + 0 < 7 AND p_lost = ANY (r.lost_with)
            AND (why <> 'stall' OR coalesce(r.stalls, 0) < often)
    ) WHERE w.worker_id = p_lost;
    RETURN changed;
END
$function$;
