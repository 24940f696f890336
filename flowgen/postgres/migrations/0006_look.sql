-- What the functions of the worker and of its care would find to do, in one look that changes nothing: an idle worker
-- asks no more than this. No two indexes fit the conditions of one EXISTS.
-- `lost`: a session is to be declared dead, or to be released, or what was counted for it is to be taken back.
CREATE FUNCTION {schema}.care() RETURNS TABLE (
    at timestamptz, lost boolean, ready boolean, suspect boolean, held boolean, cascades boolean, former boolean,
    events boolean, closed text[], next_due_at timestamptz, next_tick_at timestamptz
)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
#variable_conflict use_column
BEGIN
    at := {schema}.clock();
    lost := EXISTS (
        SELECT 1 FROM {schema}.worker w WHERE NOT w.released AND (
            w.dead OR w.lease_until < at
            OR w.timeline <> {schema}.timeline() OR w.system_identifier <> {schema}.system_identifier()
        ) OR w.excuse IS NOT NULL AND w.charged IS NOT NULL
    );
    ready := EXISTS (SELECT 1 FROM {schema}.run r WHERE r.status = 0 AND r.recoveries < 2);
    suspect := EXISTS (SELECT 1 FROM {schema}.run r WHERE r.status = 0 AND r.recoveries >= 2);
    held := EXISTS (SELECT 1 FROM {schema}.run r WHERE r.status = 2);
    cascades := EXISTS (SELECT 1 FROM {schema}.run r WHERE r.cascade) OR EXISTS (SELECT 1 FROM {schema}.unwanted);
    events := EXISTS (SELECT 1 FROM {schema}.event e WHERE e.known_at IS NULL)
        OR EXISTS (SELECT 1 FROM {schema}.event_wait w WHERE w.fresh);
    closed := CASE WHEN EXISTS (SELECT 1 FROM {schema}.time_window) THEN {schema}.closed_names() END;
    former := EXISTS (SELECT 1 FROM {schema}.former);
    next_due_at := (SELECT r.due_at FROM {schema}.run r WHERE r.due_at IS NOT NULL AND r.status IN (1, 4)
        ORDER BY r.due_at LIMIT 1);
    next_tick_at := (SELECT s.next_at FROM {schema}.schedule s WHERE NOT s.paused ORDER BY s.next_at LIMIT 1);
    RETURN NEXT;
END
$function$;
