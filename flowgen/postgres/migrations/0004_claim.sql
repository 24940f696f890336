-- How a worker comes by runs, and by what it needs to go on with them.

-- Three statements, each with a snapshot of its own: the fence; ready rows become ours; then their histories and their
-- inbox. A history that is read in the statement that locks can be older than the lock.
--
-- A row that nobody has locked (`xmax`) is not locked before it is changed. Somebody may come between: an error then, and
-- the next claim sees the lock. It comes sooner than a deadlock is looked for, so nobody but the claim gives up.
--
-- The first row of the result is the claim's head (`run_id` NULL), each further one a run, in the order of the queue:
-- NULL for what is as it is in most runs, and for no history; an empty one is a history that is read in pages.
-- `p_have` is what the caller's cache holds: {"<run_id>": [claim, index], ...}.
--
-- `p_since` leaves out what is ready for longer; `since` of the head is what the next look may give there. While a session
-- holds an old snapshot the index keeps every run that was ever ready since, and a look from its beginning reads them all.
CREATE FUNCTION {schema}.claim(
    p_session uuid, p_epoch integer, p_queues text[], p_limit integer, p_suspect boolean, p_bare boolean,
    p_have jsonb, p_run_bytes bigint, p_batch_bytes bigint, p_since timestamptz DEFAULT NULL
) RETURNS TABLE (
    fenced boolean, busy boolean, at timestamptz, next_due_at timestamptz, suspects integer, since timestamptz,
    run_id uuid, id text, name text, kind text, queue text, priority integer, claim integer, attempt integer,
    recoveries integer, input text, correlation_id text, parent_correlation_id text, parent_id uuid, parent_key text,
    root_id uuid, depth integer, trigger text, deadline timestamptz, created_at timestamptz, mail integer,
    request integer, reason text, base integer, prologue integer, next_index integer, partial boolean,
    history text, inbox text, floor integer
)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan SET lock_timeout = '500ms'
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    me record;
    fronts text[];    -- queues to look at, in any order
    one text;
    batch uuid[];
    got uuid[] := '{}';
    room integer := p_limit;
    oldest timestamptz := coalesce(p_since, '-infinity');
    latest timestamptz;   -- since when the last run of the batch was ready
    even boolean;         -- all runs of the batch have one priority
    known boolean;    -- some of them have a history or letters
    h_next integer[];
    h_partial boolean[];
    h_history text[];
    h_inbox text[];
BEGIN
    IF pg_current_xact_id_if_assigned() IS NOT NULL THEN
        RAISE EXCEPTION 'flowgen: a claim and a flush are a transaction each' USING ERRCODE = 'FG003';
    END IF;
    fenced := false;
    busy := false;
    at := {schema}.clock();
    SELECT w.names, coalesce(p_queues, w.queues) AS queues,
        (SELECT true FROM {schema}.time_window LIMIT 1) AS windowed
    INTO me FROM {schema}.worker w
    WHERE w.worker_id = p_session AND w.epoch = p_epoch AND NOT w.dead AND w.lease_until > {schema}.clock()
        AND w.timeline = {schema}.timeline() AND w.system_identifier = {schema}.system_identifier()
    FOR KEY SHARE;
    IF NOT FOUND THEN
        fenced := true;
        RETURN NEXT;
        RETURN;
    END IF;
    IF me.windowed THEN
        me.names := ARRAY(
            SELECT n.name FROM unnest(me.names) AS n(name)
            WHERE n.name <> ALL (coalesce({schema}.closed_names(), '{}'))
        );
    END IF;
    -- A suspect may kill this process: it is claimed by a session that has nothing else to lose.
    IF p_suspect AND NOT EXISTS (SELECT 1 FROM {schema}.run r WHERE r.status = 3 AND r.owner = p_session) THEN
        WITH picked AS MATERIALIZED (
            SELECT r.run_id FROM {schema}.run r
            WHERE r.status = 0 AND r.recoveries >= 2 AND r.name = ANY (me.names)
                AND (me.queues IS NULL OR r.queue = ANY (me.queues))
                AND NOT EXISTS (SELECT 1 FROM {schema}.queue q WHERE q.name = r.queue AND q.paused)
            LIMIT 1 FOR NO KEY UPDATE OF r SKIP LOCKED
        ), taken AS (
            UPDATE {schema}.run AS r SET
                status = 3, owner = p_session, claim = r.claim + 1, seen = r.mail, started_at = coalesce(r.started_at, at)
            FROM picked p WHERE r.run_id = ANY (ARRAY[p.run_id]) RETURNING r.run_id
        )
        SELECT array_agg(t.run_id) INTO batch FROM taken t;
        got := got || batch;
    END IF;
    IF p_suspect THEN
        room := 0;
    ELSIF me.queues IS NULL THEN
        WITH RECURSIVE q AS (
            (SELECT r.queue FROM {schema}.run r WHERE r.status = 0 AND r.recoveries < 2 AND r.due_at >= oldest
                ORDER BY r.queue LIMIT 1)
            UNION ALL
            SELECT (SELECT r.queue FROM {schema}.run r WHERE r.status = 0 AND r.recoveries < 2 AND r.due_at >= oldest
                    AND r.queue > q.queue ORDER BY r.queue LIMIT 1)
            FROM q WHERE q.queue IS NOT NULL
        )
        SELECT array_agg(q.queue ORDER BY random()) INTO fronts FROM q
        WHERE q.queue IS NOT NULL AND (SELECT p.paused FROM {schema}.queue p WHERE p.name = q.queue) IS NOT TRUE;
    ELSE
        SELECT array_agg(q.queue ORDER BY random()) INTO fronts FROM unnest(me.queues) AS q(queue)
        WHERE (SELECT p.paused FROM {schema}.queue p WHERE p.name = q.queue) IS NOT TRUE;
    END IF;
    FOREACH one IN ARRAY coalesce(fronts, '{}') LOOP
        EXIT WHEN room <= 0;
        IF NOT pg_try_advisory_xact_lock(hashtext('flowgen claim ' || {schema_text}), hashtext(one)) THEN
            busy := true;
            CONTINUE;
        END IF;
        WITH front AS MATERIALIZED (
            SELECT r.run_id, r.xmax = '0' AS untouched FROM {schema}.run r
            WHERE r.status = 0 AND r.recoveries < 2 AND r.queue = one AND r.name = ANY (me.names)
                AND r.due_at >= oldest
            ORDER BY r.queue, r.priority DESC, r.due_at LIMIT room
        ), picked AS MATERIALIZED (
            SELECT r.run_id FROM {schema}.run r
            WHERE r.status = 0 AND r.recoveries < 2 AND r.queue = one AND r.name = ANY (me.names)
                AND r.due_at >= oldest AND (SELECT NOT bool_and(f.untouched) FROM front f)
            ORDER BY r.queue, r.priority DESC, r.due_at LIMIT room
            FOR NO KEY UPDATE OF r SKIP LOCKED
        ), taken AS (
            UPDATE {schema}.run AS r SET
                status = 3, owner = p_session, claim = r.claim + 1, seen = r.mail, started_at = coalesce(r.started_at, at)
            FROM (
                SELECT f.run_id FROM front f WHERE (SELECT bool_and(f.untouched) FROM front f)
                UNION ALL
                SELECT p.run_id FROM picked p
            ) p
            WHERE r.run_id = ANY (ARRAY[p.run_id]) AND r.status + 0 = 0
            RETURNING r.run_id, r.due_at, r.priority
        )
        SELECT array_agg(t.run_id), max(t.due_at), min(t.priority) = max(t.priority) INTO batch, latest, even
        FROM taken t;
        got := got || batch;
        room := p_limit - cardinality(got);
    END LOOP;

    SELECT (SELECT r.due_at FROM {schema}.run r WHERE r.due_at IS NOT NULL AND r.status IN (1, 4)
            ORDER BY r.due_at LIMIT 1),
        (SELECT count(*) FROM {schema}.run r WHERE r.status = 0 AND r.recoveries >= 2
            AND r.name = ANY (me.names) AND (me.queues IS NULL OR r.queue = ANY (me.queues))),
        (SELECT true FROM {schema}.run r WHERE r.run_id = ANY (got) AND (r.claim > 1 OR r.seen > 0) LIMIT 1)
    INTO next_due_at, suspects, known;
    -- A run is seen when its start commits, which may be some time after the moment since which it is ready.
    since := CASE WHEN busy OR p_suspect THEN NULL WHEN room > 0 THEN at - interval '10 s'
        WHEN cardinality(fronts) = 1 AND even THEN latest END;
    RETURN NEXT;
    IF cardinality(got) = 0 THEN
        RETURN;
    END IF;
    IF known THEN
        SELECT array_agg(greatest(r.last + 1, r.floor) ORDER BY r.place),
            array_agg(nullif(r.known IS NOT NULL AND r.bytes <= p_run_bytes AND r.running <= p_batch_bytes, false)
                ORDER BY r.place),
            array_agg(CASE WHEN r.last IS NULL THEN NULL
                WHEN r.bytes <= p_run_bytes AND r.running <= p_batch_bytes THEN (
                    SELECT coalesce(json_agg(json_build_array(e.index, e.kind, e.key, e.fingerprint, e.status, e.attempt,
                        (extract(epoch FROM e.due_at) * 1000000)::bigint, e.named, e.value,
                        (date_part('epoch', e.recorded_at) * 1000000)::bigint)), '[]')::text
                    FROM (
                        SELECT e.* FROM {schema}.entry e
                        WHERE e.run_id = r.run_id AND e.index > coalesce(r.known, r.floor - 1, -1)
                            AND (e.index < coalesce(r.prologue, 0) OR e.index >= coalesce(r.base, 0) OR e.named)
                        ORDER BY e.index
                    ) e
                ) ELSE '' END ORDER BY r.place),
            array_agg(CASE WHEN r.seen > 0 AND NOT p_bare THEN (
                SELECT json_agg(json_build_array(m.id, m.kind, m.key, m.payload,
                    (date_part('epoch', m.created_at) * 1000000)::bigint) ORDER BY m.id)::text
                FROM {schema}.inbox m WHERE m.run_id = r.run_id
            ) END ORDER BY r.place)
        INTO h_next, h_partial, h_history, h_inbox
        FROM (
            SELECT s.*, sum(CASE WHEN s.bytes <= p_run_bytes THEN s.bytes END) OVER (ORDER BY s.place) AS running
            FROM (
                SELECT g.place, r.run_id, r.seen, r.base, r.prologue, r.floor, k.known,
                    CASE WHEN r.claim > 1 THEN
                        (SELECT e.index FROM {schema}.entry e WHERE e.run_id = r.run_id ORDER BY e.index DESC LIMIT 1)
                    END AS last,
                    CASE WHEN r.claim > 1 AND NOT p_bare THEN (
                        SELECT coalesce(sum(200 + length(e.key) + coalesce(octet_length(e.value), 0)), 0)
                        FROM {schema}.entry e
                        WHERE e.run_id = r.run_id AND e.index > coalesce(k.known, r.floor - 1, -1)
                            AND (e.index < coalesce(r.prologue, 0) OR e.index >= coalesce(r.base, 0) OR e.named)
                    ) END AS bytes
                FROM unnest(got) WITH ORDINALITY AS g(run_id, place)
                JOIN {schema}.run r ON r.run_id = ANY (ARRAY[g.run_id])
                CROSS JOIN LATERAL (
                    SELECT CASE WHEN r.claim > 1 AND (p_have -> r.run_id::text ->> 0)::integer = r.claim - 1
                        THEN (p_have -> r.run_id::text ->> 1)::integer END AS known
                ) k
            ) s
        ) r;
    END IF;
    -- `seen`, not `mail`: what came since the claim may not be among the letters that were read
    RETURN QUERY
    SELECT NULL::boolean, NULL::boolean, NULL::timestamptz, NULL::timestamptz, NULL::integer, NULL::timestamptz,
        r.run_id, r.id, r.name, r.kind, r.queue, nullif(r.priority, 0), r.claim, nullif(r.attempt, 1),
        nullif(r.recoveries, 0)::integer, r.input::text, r.correlation_id, r.parent_correlation_id, r.parent_id,
        r.parent_key, r.root_id, nullif(r.depth, 0)::integer, r.trigger::text, r.deadline, coalesce(r.continued_at, r.created_at),
        nullif(r.seen, 0), r.request::integer, r.reason, r.base, r.prologue, g.next, g.partial, g.history, g.inbox, r.floor
    FROM unnest(got, h_next, h_partial, h_history, h_inbox) WITH ORDINALITY
        AS g(run_id, next, partial, history, inbox, place)
    JOIN {schema}.run r ON r.run_id = ANY (ARRAY[g.run_id])
    ORDER BY g.place;
END
$function$;

-- Sleepers, delayed runs and deadlines that are due, as a batch: `promoted` rows are ready now.
CREATE FUNCTION {schema}.promote(p_limit integer)
RETURNS TABLE (at timestamptz, promoted integer, next_due_at timestamptz)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    found uuid[];
BEGIN
    at := {schema}.clock();
    promoted := 0;
    found := ARRAY(
        SELECT r.run_id FROM {schema}.run r WHERE r.due_at IS NOT NULL AND r.status IN (1, 4) AND r.due_at <= at
        ORDER BY r.due_at LIMIT p_limit
    );
    IF cardinality(found) > 0 THEN
        WITH picked AS MATERIALIZED (
            SELECT r.run_id FROM {schema}.run r
            WHERE r.run_id = ANY (found) AND r.status + 0 IN (1, 4) AND r.due_at <= at
            ORDER BY r.run_id FOR NO KEY UPDATE OF r SKIP LOCKED
        )
        UPDATE {schema}.run AS r SET status = 0 FROM picked p WHERE r.run_id = ANY (ARRAY[p.run_id]);
        GET DIAGNOSTICS promoted = ROW_COUNT;
    END IF;
    next_due_at := (SELECT r.due_at FROM {schema}.run r WHERE r.due_at IS NOT NULL AND r.status IN (1, 4)
        ORDER BY r.due_at LIMIT 1);
    RETURN NEXT;
END
$function$;
