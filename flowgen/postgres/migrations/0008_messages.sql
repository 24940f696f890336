-- Messages to runs from others: signals, events, what became of completion tokens.

-- Put messages into the inboxes of runs, in the order given, and wake whom they are for: a run that waits is ready at
-- once, whatever it waits for. `m_kind` is flowgen.core.entries.MessageKind. Gives one row for each run that is named:
-- its status before (NULL: there is no such run), and whether it was told; one that has ended is told nothing.
--
-- Rows of `run` are locked in the order of run_id, until the end of the caller's transaction, so that messages to one run
-- stand in the order of their commits. With `p_wait` false a row that is locked elsewhere is skipped: not told, though its
-- status is below 7. Whoever calls holds a fence, or is a client; a hint to idle workers is the caller's.
CREATE FUNCTION {schema}.deliver(
    m_run uuid[], m_kind integer[], m_key text[], m_payload text[], p_wait boolean DEFAULT true
) RETURNS TABLE (run_id uuid, status integer, told boolean)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    moment timestamptz := {schema}.clock();
    wanted uuid[] := ARRAY(SELECT DISTINCT m.run FROM unnest(m_run) AS m(run) WHERE m.run IS NOT NULL ORDER BY m.run);
    locked uuid[];    -- rows that are there and ours to change
    states integer[];
    live uuid[];      -- of these, the ones that have not ended
BEGIN
    IF p_wait THEN
        SELECT array_agg(l.run_id), array_agg(l.status), array_agg(l.run_id) FILTER (WHERE l.status < 7)
        INTO locked, states, live
        FROM (
            SELECT r.run_id, r.status::integer AS status FROM {schema}.run r WHERE r.run_id = ANY (wanted)
            ORDER BY r.run_id FOR NO KEY UPDATE OF r
        ) l;
    ELSE
        SELECT array_agg(l.run_id), array_agg(l.status), array_agg(l.run_id) FILTER (WHERE l.status < 7)
        INTO locked, states, live
        FROM (
            SELECT r.run_id, r.status::integer AS status FROM {schema}.run r WHERE r.run_id = ANY (wanted)
            ORDER BY r.run_id FOR NO KEY UPDATE OF r SKIP LOCKED
        ) l;
    END IF;
    IF live IS NOT NULL THEN
        INSERT INTO {schema}.inbox (run_id, created_at, kind, key, payload)
        SELECT m.run, moment, m.kind, m.key, m.payload
        FROM unnest(m_run, m_kind, m_key, m_payload) WITH ORDINALITY AS m(run, kind, key, payload, place)
        WHERE live[width_bucket(m.run, live)] = m.run
        ORDER BY m.place;
        UPDATE {schema}.run AS r SET
            mail = r.mail + t.letters,
            status = CASE WHEN r.status = 4 THEN 0 ELSE r.status END,
            due_at = CASE WHEN r.status = 4 THEN moment ELSE r.due_at END
        FROM (SELECT m.run, count(*)::integer AS letters FROM unnest(m_run) AS m(run) GROUP BY m.run) t
        WHERE r.run_id = ANY (ARRAY[t.run]) AND live[width_bucket(t.run, live)] = t.run AND r.status + 0 < 7;
    END IF;
    RETURN QUERY
    SELECT w.run,
        CASE WHEN locked[width_bucket(w.run, locked)] = w.run THEN states[width_bucket(w.run, locked)]
            ELSE (SELECT r.status::integer FROM {schema}.run r WHERE r.run_id = w.run) END,
        coalesce(live[width_bucket(w.run, live)] = w.run, false)
    FROM unnest(wanted) AS w(run);
END
$function$;
