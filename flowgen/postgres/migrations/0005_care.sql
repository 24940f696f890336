-- What the agents of every worker do again and again, in small batches: no leader, and idempotent, each of them.
-- Rows of `run` are locked in the order of run_id, with SKIP LOCKED: what is skipped is found the next time.

-- Give runs of a session back at once: a graceful stop. `p_runs` NULL: all of them. NULL when the session is fenced.
CREATE FUNCTION {schema}.release_runs(p_session uuid, p_epoch integer, p_runs uuid[]) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
DECLARE
    mine uuid[];
    released integer;
BEGIN
    PERFORM 1 FROM {schema}.worker w
    WHERE w.worker_id = p_session AND w.epoch = p_epoch AND NOT w.dead AND w.lease_until > {schema}.clock()
        AND w.timeline = {schema}.timeline() AND w.system_identifier = {schema}.system_identifier()
    FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    mine := coalesce(p_runs, ARRAY(SELECT r.run_id FROM {schema}.run r WHERE r.status = 3 AND r.owner = p_session));
    WITH picked AS MATERIALIZED (
        SELECT r.run_id FROM {schema}.run r
        WHERE r.run_id = ANY (mine) AND r.owner IS NOT DISTINCT FROM p_session
        ORDER BY r.run_id FOR NO KEY UPDATE OF r SKIP LOCKED
    )
    UPDATE {schema}.run AS r SET status = 0, owner = NULL FROM picked p WHERE r.run_id = ANY (ARRAY[p.run_id]);
    GET DIAGNOSTICS released = ROW_COUNT;
    RETURN released;
END
$function$;

-- Requests and mail of the runs that a session owns, with what their inbox holds behind what the session has read of it,
-- in one snapshot. `p_runs` are sorted; `p_read` has the number of the last message that was read of each. Whoever writes
-- a message has locked the row of its run, so that the numbers of a run's messages grow in the order of their commits.
CREATE FUNCTION {schema}.news(p_session uuid, p_runs uuid[], p_read bigint[]) RETURNS TABLE (
    run_id uuid, request integer, reason text, mail integer, deadline timestamptz, inbox text
)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT r.run_id, coalesce(r.request, 0)::integer, r.reason, r.mail, r.deadline,
        CASE WHEN r.mail > r.seen THEN (
            SELECT json_agg(json_build_array(m.id, m.kind, m.key, m.payload,
                (date_part('epoch', m.created_at) * 1000000)::bigint) ORDER BY m.id)::text
            FROM {schema}.inbox m WHERE m.run_id = r.run_id AND m.id > CASE
                WHEN p_runs[width_bucket(r.run_id, p_runs)] = r.run_id THEN p_read[width_bucket(r.run_id, p_runs)]
                ELSE 0 END
        ) END
    FROM {schema}.run r
    WHERE r.owner = p_session AND (r.request IS NOT NULL OR r.mail > r.seen);
END
$function$;

-- Cancel runs that have not ended, by whoever does not own them: one that has not begun is cancelled here, any other is
-- asked for it and made ready. Who waits for a run that ends here is told. Gives the number of rows changed; a run whose
-- row, parent or waiting runs are locked elsewhere is left for the next time.
CREATE FUNCTION {schema}.cancel_some(p_runs uuid[], p_reason text) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
DECLARE
    at timestamptz := {schema}.clock();
    locked uuid[];
    barred uuid[];  -- who has somebody to tell whose row is locked elsewhere
    ended uuid[];
    target uuid[];
    changes integer;
BEGIN
    SELECT array_agg(l.run_id) INTO locked FROM (
        SELECT r.run_id FROM {schema}.run r
        WHERE r.run_id = ANY (ARRAY(
            SELECT unnest(p_runs)
            UNION
            SELECT c.parent_id FROM {schema}.run c WHERE c.run_id = ANY (p_runs) AND c.parent_id IS NOT NULL
            UNION
            SELECT w.waiting_id FROM {schema}.waiter w WHERE w.run_id = ANY (p_runs)
        ))
        ORDER BY r.run_id FOR NO KEY UPDATE OF r SKIP LOCKED
    ) l;
    barred := ARRAY(
        SELECT t.run_id FROM (
            SELECT r.run_id, r.parent_id AS other FROM {schema}.run r
            WHERE r.run_id = ANY (p_runs) AND r.parent_id IS NOT NULL
            UNION ALL
            SELECT w.run_id, w.waiting_id FROM {schema}.waiter w WHERE w.run_id = ANY (p_runs)
        ) t
        WHERE locked[width_bucket(t.other, locked)] IS DISTINCT FROM t.other
            AND (SELECT p.status FROM {schema}.run p WHERE p.run_id = t.other) < 7
    );
    WITH changed AS (
        UPDATE {schema}.run AS r SET
            status = CASE WHEN r.started_at IS NULL THEN 9 WHEN r.status = 3 THEN 3 ELSE 0 END,
            request = CASE WHEN r.started_at IS NOT NULL THEN 1 END,
            reason = p_reason,
            error = CASE WHEN r.started_at IS NULL THEN json_build_object('reason', p_reason) ELSE r.error END,
            finished_at = CASE WHEN r.started_at IS NULL THEN at END,
            due_at = CASE WHEN r.started_at IS NULL THEN NULL WHEN r.status IN (0, 3) THEN r.due_at ELSE at END
        WHERE r.run_id = ANY (p_runs) AND locked[width_bucket(r.run_id, locked)] = r.run_id
            AND r.status < 7 AND r.request IS DISTINCT FROM 1
            AND r.run_id <> ALL (barred)
        RETURNING r.run_id, r.status, r.parent_id, r.parent_key
    ), ends AS (
        SELECT c.run_id, c.parent_id AS target, c.parent_key AS key FROM changed c
        WHERE c.status = 9 AND c.parent_key IS NOT NULL
        UNION ALL
        SELECT c.run_id, w.waiting_id, w.key FROM changed c JOIN {schema}.waiter w ON w.run_id = ANY (ARRAY[c.run_id])
        WHERE c.status = 9
    ), told AS (
        INSERT INTO {schema}.inbox (run_id, created_at, kind, key, payload)
        SELECT e.target, at, 1, e.key, '{"status":"cancelled","error":' || json_build_object('reason', p_reason)::text
            || ',"run_id":"' || e.run_id || '"}'
        FROM ends e
        WHERE (SELECT p.status FROM {schema}.run p WHERE p.run_id = e.target) < 7
        RETURNING run_id
    )
    SELECT (SELECT count(*) FROM changed), (SELECT array_agg(c.run_id) FROM changed c WHERE c.status = 9),
        (SELECT array_agg(t.run_id) FROM told t)
    INTO changes, ended, target;
    IF target IS NOT NULL THEN
        UPDATE {schema}.run AS r SET
            mail = r.mail + t.letters,
            status = CASE WHEN r.status = 4 THEN 0 ELSE r.status END,
            due_at = CASE WHEN r.status = 4 THEN at ELSE r.due_at END
        FROM (SELECT l.run, count(*)::integer AS letters FROM unnest(target) AS l(run) GROUP BY l.run) t
        WHERE r.run_id = ANY (ARRAY[t.run]) AND r.status < 7;
    END IF;
    IF ended IS NOT NULL THEN
        DELETE FROM {schema}.inbox i WHERE i.run_id = ANY (ended);
        DELETE FROM {schema}.waiter w WHERE w.run_id = ANY (ended);
    END IF;
    RETURN changes;
END
$function$;

-- Children that nobody waits for any more and whose rows were locked elsewhere when their parent went on: noted in the
-- parent's commit, so that they are cancelled whatever becomes of it and of its worker. An id for each note, so that one
-- that is written while another of the same run goes is never taken for that one.
CREATE TABLE {schema}.unwanted (
    id bigint GENERATED ALWAYS AS IDENTITY,
    run_id uuid NOT NULL,
    CONSTRAINT unwanted_pkey PRIMARY KEY (id)
);

-- Cancel what is noted. A note goes when a snapshot that is younger than it finds its run asked, or ended.
CREATE FUNCTION {schema}.cancel_unwanted(p_limit integer, p_reason text) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
DECLARE
    notes bigint[];
    children uuid[];
    changes integer;
BEGIN
    SELECT array_agg(n.id), array_agg(n.run_id) INTO notes, children FROM (
        SELECT u.id, u.run_id FROM {schema}.unwanted u ORDER BY u.id LIMIT p_limit FOR UPDATE SKIP LOCKED
    ) n;
    IF notes IS NULL THEN
        RETURN 0;
    END IF;
    changes := {schema}.cancel_some(children, p_reason);
    DELETE FROM {schema}.unwanted u WHERE u.id = ANY (notes) AND coalesce((
        SELECT r.status >= 7 OR r.request IS NOT DISTINCT FROM 1 FROM {schema}.run r WHERE r.run_id = u.run_id
    ), true);
    RETURN changes;
END
$function$;

-- The live children of runs that ended as failed or cancelled, detached ones apart. The flag on the parent's row says
-- that there may be some; it goes when a snapshot that is younger than the parent's end finds none.
CREATE FUNCTION {schema}.cancel_children(p_limit integer) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
DECLARE
    parents uuid[];
    children uuid[];
    changes integer := 0;
BEGIN
    parents := ARRAY(SELECT r.run_id FROM {schema}.run r WHERE r.cascade LIMIT p_limit);
    IF cardinality(parents) = 0 THEN
        RETURN 0;
    END IF;
    children := ARRAY(
        SELECT c.run_id FROM {schema}.run c
        WHERE c.parent_id = ANY (parents) AND c.status < 7 AND NOT c.detached AND c.request IS DISTINCT FROM 1
        LIMIT p_limit
    );
    IF cardinality(children) > 0 THEN
        changes := {schema}.cancel_some(children, 'the parent run ended');
    END IF;
    WITH picked AS MATERIALIZED (
        SELECT r.run_id FROM {schema}.run r WHERE r.run_id = ANY (parents)
        ORDER BY r.run_id FOR NO KEY UPDATE OF r SKIP LOCKED
    )
    UPDATE {schema}.run AS r SET cascade = NULL FROM picked p
    WHERE r.run_id = ANY (ARRAY[p.run_id]) AND r.cascade IS NOT DISTINCT FROM true AND (
        SELECT c.run_id FROM {schema}.run c
        WHERE c.parent_id = r.run_id AND c.status < 7 AND NOT c.detached AND c.request IS DISTINCT FROM 1 LIMIT 1
    ) IS NULL;
    RETURN changes;
END
$function$;

-- Ready runs at the front of each queue that nobody can claim are held: they would cost every claim.
CREATE FUNCTION {schema}.hold(p_limit integer) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
DECLARE
    found_runs uuid[];
    held integer := 0;
BEGIN
    WITH RECURSIVE q AS (
        (SELECT r.queue FROM {schema}.run r WHERE r.status = 0 AND r.recoveries < 2 ORDER BY r.queue LIMIT 1)
        UNION ALL
        SELECT (SELECT r.queue FROM {schema}.run r WHERE r.status = 0 AND r.recoveries < 2 AND r.queue > q.queue
            ORDER BY r.queue LIMIT 1)
        FROM q WHERE q.queue IS NOT NULL
    ), front AS MATERIALIZED (
        SELECT f.* FROM q CROSS JOIN LATERAL (
            SELECT r.run_id, r.name, r.queue FROM {schema}.run r
            WHERE r.status = 0 AND r.recoveries < 2 AND r.queue = q.queue
            ORDER BY r.queue, r.priority DESC, r.due_at LIMIT p_limit
        ) f WHERE q.queue IS NOT NULL
    ), place AS MATERIALIZED (
        SELECT d.name, d.queue FROM (SELECT DISTINCT f.name, f.queue FROM front f OFFSET 0) d
        WHERE NOT {schema}.is_served(d.name, d.queue)
    )
    SELECT array_agg(f.run_id) INTO found_runs FROM place p JOIN front f ON f.name = p.name AND f.queue = p.queue;
    IF found_runs IS NOT NULL THEN
        WITH picked AS MATERIALIZED (
            SELECT r.run_id FROM {schema}.run r WHERE r.run_id = ANY (found_runs) AND r.status + 0 = 0
            ORDER BY r.run_id FOR NO KEY UPDATE OF r SKIP LOCKED
        )
        UPDATE {schema}.run AS r SET status = 2 FROM picked p WHERE r.run_id = ANY (ARRAY[p.run_id]);
        GET DIAGNOSTICS held = ROW_COUNT;
    END IF;
    RETURN held;
END
$function$;

-- Held runs that can be claimed again are ready: a worker registered that knows them, their queue was
-- resumed, or their window opened.
CREATE FUNCTION {schema}.put_back(p_limit integer) RETURNS integer
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
DECLARE
    found_runs uuid[];
    freed integer := 0;
BEGIN
    WITH RECURSIVE place AS (
        (SELECT r.queue, r.name FROM {schema}.run r WHERE r.status = 2 ORDER BY r.queue, r.name LIMIT 1)
        UNION ALL
        SELECT n.queue, n.name FROM place p CROSS JOIN LATERAL (
            SELECT r.queue, r.name FROM {schema}.run r WHERE r.status = 2 AND (r.queue, r.name) > (p.queue, p.name)
            ORDER BY r.queue, r.name LIMIT 1
        ) n
    ), served AS MATERIALIZED (
        SELECT p.queue, p.name FROM place p WHERE {schema}.is_served(p.name, p.queue)
    )
    SELECT array_agg(f.run_id) INTO found_runs FROM (
        SELECT r.run_id FROM served s
        JOIN {schema}.run r ON r.status = 2 AND r.queue = ANY (ARRAY[s.queue]) AND r.name = ANY (ARRAY[s.name])
        LIMIT p_limit
    ) f;
    IF found_runs IS NOT NULL THEN
        WITH picked AS MATERIALIZED (
            SELECT r.run_id FROM {schema}.run r WHERE r.run_id = ANY (found_runs) AND r.status + 0 = 2
            ORDER BY r.run_id FOR NO KEY UPDATE OF r SKIP LOCKED
        )
        UPDATE {schema}.run AS r SET status = 0 FROM picked p WHERE r.run_id = ANY (ARRAY[p.run_id]);
        GET DIAGNOSTICS freed = ROW_COUNT;
    END IF;
    RETURN freed;
END
$function$;

-- The last statement of a Transaction: its outcome, or an error that takes the user's writes back. FG001: the session is
-- fenced. FG002: the transaction is not the one that began with this token.
CREATE FUNCTION {schema}.finish_transaction(
    p_session uuid, p_epoch integer, p_token text,
    e_run uuid[], e_index integer[], e_facts integer[], e_key text[], e_fingerprint text[], e_attempt integer[],
    e_value text[], e_due timestamptz[], e_delay interval[]
) RETURNS timestamptz
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    written record;
BEGIN
    IF current_setting('flowgen.tx', true) IS DISTINCT FROM p_token THEN
        RAISE EXCEPTION 'the transaction was ended inside' USING ERRCODE = 'FG002';
    END IF;
    SELECT f.fenced, f.at INTO written FROM {schema}.flush_entries(
        p_session, p_epoch, e_run, e_index, e_facts, e_key, e_fingerprint, e_attempt, e_value, e_due, e_delay, '{}', '{}'
    ) f;
    IF written.fenced THEN
        RAISE EXCEPTION 'the lease of session % is over', p_session USING ERRCODE = 'FG001';
    END IF;
    RETURN written.at;
END
$function$;

-- A child with an author's id, on its own: started, or, when a run of this id exists with the same name and input,
-- waited for by a second parent. `what` is fenced, lost (the parent is not ours), started, attached or conflict. Is the
-- run over already, the parent's inbox has its end. The input of one that `went_on` as new is that of its first pass.
CREATE FUNCTION {schema}.attach_child(
    p_session uuid, p_epoch integer, p_claim integer,
    e_run uuid[], e_index integer[], e_facts integer[], e_key text[], e_fingerprint text[], e_attempt integer[],
    e_value text[], e_due timestamptz[], e_delay interval[],
    k_run uuid, k_id text, k_kind text, k_name text, k_queue text, k_priority integer, k_input text,
    k_at timestamptz, k_delay interval, k_deadline interval, k_tags text[], k_correlation text,
    k_parent_correlation text, k_parent uuid, k_parent_key text, k_root uuid, k_depth integer, k_detached boolean,
    k_trigger text, p_wait boolean
) RETURNS TABLE (
    what text, at timestamptz, name text, input text, went_on boolean, due_run uuid[], due_index integer[],
    due timestamptz[]
)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    starts timestamptz;
    there record;
    written record;
    made integer := 0;
BEGIN
    at := {schema}.clock();
    starts := coalesce(k_at, at + k_delay);
    what := 'fenced';
    PERFORM 1 FROM {schema}.worker w
    WHERE w.worker_id = p_session AND w.epoch = p_epoch AND NOT w.dead AND w.lease_until > {schema}.clock()
        AND w.timeline = {schema}.timeline() AND w.system_identifier = {schema}.system_identifier()
    FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN NEXT;
        RETURN;
    END IF;
    -- the one starter's snapshot may be older than the other's commit: insert, then look again
    FOR turn IN 1..5 LOOP
        PERFORM 1 FROM {schema}.run r WHERE r.run_id IN (k_run, k_parent) ORDER BY r.run_id FOR NO KEY UPDATE;
        PERFORM 1 FROM {schema}.run r
        WHERE r.run_id = k_parent AND r.owner IS NOT DISTINCT FROM p_session AND r.claim = p_claim;
        IF NOT FOUND THEN
            what := 'lost';
            RETURN NEXT;
            RETURN;
        END IF;
        SELECT r.name, coalesce(r.first_input, r.input)::text AS input, r.first_input IS NOT NULL AS went_on, r.status,
            r.output::text AS output, r.error::text AS error, r.parent_id, r.parent_key
        INTO there FROM {schema}.run r WHERE r.run_id = k_run;
        EXIT WHEN FOUND;
        INSERT INTO {schema}.run (
            run_id, id, kind, name, queue, priority, input, tags, correlation_id, parent_correlation_id, parent_id,
            parent_key, root_id, depth, detached, trigger, created_at, deadline, status, due_at
        ) VALUES (
            k_run, k_id, k_kind, k_name, k_queue, k_priority, k_input::json, k_tags, k_correlation,
            k_parent_correlation, k_parent, k_parent_key, k_root, k_depth, k_detached, k_trigger::json, at,
            at + k_deadline,
            CASE WHEN starts > at THEN 1 WHEN NOT {schema}.is_served(k_name, k_queue) THEN 2 ELSE 0 END,
            CASE WHEN starts > at THEN least(starts, at + k_deadline) ELSE at END
        ) ON CONFLICT (run_id) DO NOTHING;
        GET DIAGNOSTICS made = ROW_COUNT;
        EXIT WHEN made = 1;
    END LOOP;
    what := 'started';
    name := k_name;
    input := k_input;
    went_on := false;
    IF made = 0 THEN
        IF there IS NULL THEN
            RAISE EXCEPTION 'run % comes and goes', k_run USING ERRCODE = '40001';
        END IF;
        name := there.name;
        input := there.input;
        went_on := there.went_on;
        IF there.name <> k_name OR there.input <> k_input THEN
            what := 'conflict';
            RETURN NEXT;
            RETURN;
        END IF;
        what := 'attached';
        IF there.parent_id = k_parent AND there.parent_key = k_parent_key THEN
            what := 'started';  -- by an earlier try of this very command
        ELSIF p_wait AND there.status < 7 THEN
            INSERT INTO {schema}.waiter (run_id, waiting_id, key) VALUES (k_run, k_parent, k_parent_key)
            ON CONFLICT DO NOTHING;
        ELSIF p_wait THEN
            INSERT INTO {schema}.inbox (run_id, created_at, kind, key, payload) VALUES (k_parent, at, 1, k_parent_key,
                '{"status":"' || CASE there.status
                    WHEN 7 THEN 'completed","output":' || coalesce(there.output, 'null')
                    WHEN 8 THEN 'failed","error":' || coalesce(there.error, 'null')
                    ELSE 'cancelled","error":' || coalesce(there.error, 'null') END
                || ',"run_id":"' || k_run || '"}');
            UPDATE {schema}.run AS r SET mail = r.mail + 1 WHERE r.run_id = k_parent;
        END IF;
    END IF;
    SELECT f.fenced, f.due_run, f.due_index, f.due INTO written FROM {schema}.flush_entries(
        p_session, p_epoch, e_run, e_index, e_facts, e_key, e_fingerprint, e_attempt, e_value, e_due, e_delay, '{}', '{}'
    ) f;
    due_run := written.due_run;
    due_index := written.due_index;
    due := written.due;
    RETURN NEXT;
END
$function$;
