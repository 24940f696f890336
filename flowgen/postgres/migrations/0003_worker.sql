-- What workers write, as functions: the plan is made once a connection, with nested loops over indexes only. A plan that
-- is made on an empty table would otherwise scan a full one later.
--
-- Each function that is given a session begins with the fence: the worker row, locked FOR KEY SHARE. Nothing is written
-- unless it was found. A run_id is looked up in a sorted array by width_bucket, which is a binary search. On an empty
-- table every plan looks as good as any other, so the statements leave no choice. Rows are joined by
-- `run_id = ANY (ARRAY[...])`, which only a look-up by index can answer. Conditions on a row that is found by its run_id
-- fit no partial index (`status + 0`, IS NOT DISTINCT FROM). A question about another row is a scalar subquery: EXISTS
-- may be answered by a hash of the whole table. `jit` is off as the price of what is switched off sets it going. What finds rows by a partial index has no ORDER BY of the
-- primary key: the ids are collected first, and locked in their order by a second statement.
--
-- Lock order: the worker row, then rows of `run`. A flush never waits for a row of `run` (SKIP LOCKED, or 2 ms and an
-- error); whoever waits for several of them takes them in the order of run_id.

-- Entries only: what a step costs. `facts` is kind + 16 * status + 256 * named.
CREATE FUNCTION {schema}.flush_entries(
    p_session uuid, p_epoch integer,
    e_run uuid[], e_index integer[], e_facts integer[], e_key text[], e_fingerprint text[], e_attempt integer[],
    e_value text[], e_due timestamptz[], e_delay interval[],
    c_run uuid[], c_id bigint[]
) RETURNS TABLE (fenced boolean, at timestamptz, due_run uuid[], due_index integer[], due timestamptz[])
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
BEGIN
    fenced := false;
    at := {schema}.clock();
    PERFORM 1 FROM {schema}.worker w
    WHERE w.worker_id = p_session AND w.epoch = p_epoch AND NOT w.dead AND w.lease_until > {schema}.clock()
        AND w.timeline = {schema}.timeline() AND w.system_identifier = {schema}.system_identifier()
    FOR KEY SHARE;
    IF NOT FOUND THEN
        fenced := true;
        RETURN NEXT;
        RETURN;
    END IF;
    IF cardinality(e_run) = 1 THEN  -- a lone run's step is not made a table of first
        INSERT INTO {schema}.entry
            (run_id, recorded_at, due_at, index, attempt, kind, status, named, key, fingerprint, value)
        VALUES (e_run[1], at, coalesce(e_due[1], at + e_delay[1]), e_index[1], e_attempt[1], e_facts[1] & 15,
            nullif(e_facts[1] >> 4 & 15, 0), e_facts[1] & 256 <> 0, e_key[1], e_fingerprint[1], e_value[1]);
    ELSE
        INSERT INTO {schema}.entry
            (run_id, recorded_at, due_at, index, attempt, kind, status, named, key, fingerprint, value)
        SELECT e.run, at, coalesce(e.due, at + e.delay), e.index, e.attempt, e.facts & 15,
            nullif(e.facts >> 4 & 15, 0), e.facts & 256 <> 0, e.key, e.fingerprint, e.value
        FROM unnest(e_run, e_index, e_facts, e_key, e_fingerprint, e_attempt, e_value, e_due, e_delay)
            AS e(run, index, facts, key, fingerprint, attempt, value, due, delay);
    END IF;
    IF cardinality(e_due) > 0 OR cardinality(e_delay) > 0 THEN
        SELECT array_agg(e.run), array_agg(e.index), array_agg(coalesce(e.due, at + e.delay))
        INTO due_run, due_index, due
        FROM unnest(e_run, e_index, e_due, e_delay) AS e(run, index, due, delay)
        WHERE coalesce(e.due, at + e.delay) IS NOT NULL;
    END IF;
    IF cardinality(c_run) > 0 THEN
        DELETE FROM {schema}.inbox i USING unnest(c_run, c_id) AS c(run, id)
        WHERE i.run_id = ANY (ARRAY[c.run]) AND i.id = c.id;
    END IF;
    RETURN NEXT;
END
$function$;

-- Everything that a commit of a worker can hold. `r_*` has one row for each run whose row it changes and for each
-- parent whom an end wakes, sorted by run: `r_action` is RunAction + 16 * urgent + 32 * unwinding + 64 * undoing, 0
-- for a parent; `r_letters` the messages that this flush sends to it; `r_closed` where the segment begins that a
-- checkpoint, its new base, closes. A run whose row, parent or waiting runs are
-- locked elsewhere is left out whole (`skipped`), as is one whose claim is no longer ours (neither landed nor skipped).
-- `p_eager`: the runs' own rows, which hardly anybody else locks, are changed without being locked first; only the
-- parents' are. 55P03: somebody has locked one, or began to wait for one; flush again without `p_eager`.
-- FG003: a transaction that has written already. To claim and to complete in one is a deadlock between two workers.
CREATE FUNCTION {schema}.flush(
    p_session uuid, p_epoch integer,
    e_run uuid[], e_index integer[], e_facts integer[], e_key text[], e_fingerprint text[], e_attempt integer[],
    e_value text[], e_due timestamptz[], e_delay interval[],
    c_run uuid[], c_id bigint[],
    r_run uuid[], r_action integer[], r_claim integer[], r_due timestamptz[], r_delay interval[],
    r_mail_read integer[], r_wake integer[], r_base integer[], r_prologue integer[], r_output text[], r_error text[],
    r_input text[], r_progress text[], r_reports text[], r_lasts interval[], r_parent uuid[], r_parent_key text[],
    r_letters integer[], r_closed integer[],
    k_run uuid[] DEFAULT '{}', k_id text[] DEFAULT '{}', k_facts integer[] DEFAULT '{}', k_name text[] DEFAULT '{}',
    k_queue text[] DEFAULT '{}', k_priority integer[] DEFAULT '{}', k_input text[] DEFAULT '{}',
    k_at timestamptz[] DEFAULT '{}', k_delay interval[] DEFAULT '{}', k_deadline interval[] DEFAULT '{}',
    k_tags text[] DEFAULT '{}', k_correlation text[] DEFAULT '{}', k_parent_correlation text[] DEFAULT '{}',
    k_parent uuid[] DEFAULT '{}', k_parent_key text[] DEFAULT '{}', k_root uuid[] DEFAULT '{}',
    k_depth integer[] DEFAULT '{}', k_trigger text[] DEFAULT '{}',
    p_schedules text DEFAULT NULL, p_eager boolean DEFAULT false, p_effects text DEFAULT NULL
) RETURNS TABLE (
    fenced boolean, at timestamptz, due_run uuid[], due_index integer[], due timestamptz[],
    skipped uuid[], landed uuid[], landed_status integer[], adopted uuid[]
)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
DECLARE
    locked uuid[];    -- rows that are ours to change
    live uuid[];      -- of these, the ones that have not ended
    busy uuid[];      -- rows that somebody else has locked
    refused uuid[];   -- runs of which nothing is written
    watched boolean;  -- somebody waits for some run that is not its child
    waiting uuid[];   -- such runs, when they wait for one of these
    ended uuid[];     -- runs that end here and may have something in their inbox, or waiters
    target uuid[];    -- whom the ends were told to, one for each message
    urgency boolean[];
    counting boolean[];  -- whether it is in `r_letters`
    eager boolean;
    wanted uuid[] := '{}';  -- rows to lock before any is changed
    patience text := current_setting('lock_timeout');
    hurried text;
BEGIN
    IF pg_current_xact_id_if_assigned() IS NOT NULL THEN
        RAISE EXCEPTION 'flowgen: a claim and a flush are a transaction each' USING ERRCODE = 'FG003';
    END IF;
    fenced := false;
    at := {schema}.clock();
    SELECT p_eager AND NOT EXISTS (SELECT 1 FROM {schema}.waiter) INTO eager FROM {schema}.worker w
    WHERE w.worker_id = p_session AND w.epoch = p_epoch AND NOT w.dead AND w.lease_until > {schema}.clock()
        AND w.timeline = {schema}.timeline() AND w.system_identifier = {schema}.system_identifier()
    FOR KEY SHARE;
    IF NOT FOUND THEN
        fenced := true;
        RETURN NEXT;
        RETURN;
    END IF;

    IF NOT eager THEN
        wanted := r_run;
    ELSIF cardinality(r_parent) > 0 THEN
        wanted := ARRAY(SELECT DISTINCT p.run FROM unnest(r_parent) AS p(run) WHERE p.run IS NOT NULL);
    END IF;
    IF cardinality(wanted) > 0 THEN
    SELECT array_agg(l.run_id), array_agg(l.run_id) FILTER (WHERE l.status < 7) INTO locked, live
    FROM (
        SELECT r.run_id, r.status FROM {schema}.run r WHERE r.run_id = ANY (wanted)
        ORDER BY r.run_id FOR NO KEY UPDATE OF r SKIP LOCKED
    ) l;
    IF coalesce(cardinality(locked), 0) < cardinality(wanted) THEN
        SELECT array_agg(r.run_id ORDER BY r.run_id) INTO busy FROM {schema}.run r
        WHERE r.run_id = ANY (wanted)
            AND (locked IS NULL OR locked[width_bucket(r.run_id, locked)] IS DISTINCT FROM r.run_id);
    END IF;
    END IF;

    -- Who waits without being the parent. A new waiter first locks the row of the run, so there is none from here on.
    watched := NOT eager AND EXISTS (SELECT 1 FROM {schema}.waiter);
    IF watched THEN
        SELECT array_agg(l.run_id) FILTER (WHERE l.status < 7) INTO waiting FROM (
            SELECT r.run_id, r.status FROM {schema}.run r
            WHERE r.run_id = ANY (ARRAY(SELECT w.waiting_id FROM {schema}.waiter w WHERE w.run_id = ANY (locked)))
            ORDER BY r.run_id FOR NO KEY UPDATE OF r SKIP LOCKED
        ) l;
        SELECT array_agg(DISTINCT b.run_id ORDER BY b.run_id) INTO busy FROM (
            SELECT unnest(busy) AS run_id
            UNION ALL
            SELECT w.run_id FROM {schema}.waiter w
            WHERE w.run_id = ANY (locked)
                AND (SELECT r.status FROM {schema}.run r WHERE r.run_id = w.waiting_id) < 7
                AND (waiting IS NULL OR waiting[width_bucket(w.waiting_id, waiting)] IS DISTINCT FROM w.waiting_id)
        ) b;
    END IF;

    IF eager THEN
        hurried := set_config('lock_timeout', '2ms', true);
    END IF;
    WITH changed AS (
        UPDATE {schema}.run AS r SET
            status = CASE
                WHEN u.verb IN (1, 11) THEN 3
                WHEN u.verb = 2 THEN CASE
                    WHEN (r.request IS NOT NULL AND NOT (u.unwinding AND r.request = 1))
                        OR r.mail + u.letters <> u.mail_read
                        OR least(coalesce(u.due, at + u.delay), CASE WHEN NOT u.undoing THEN coalesce(u.ends, r.deadline) END) <= at THEN 0
                    ELSE 4 END
                WHEN u.verb = 4 AND r.request IS NULL AND u.delay > interval '0' THEN 1
                WHEN u.verb = 5 AND r.request IS DISTINCT FROM 1 THEN 5
                WHEN u.verb = 6 THEN 6
                WHEN u.verb IN (7, 8, 9) THEN u.verb
                ELSE 0 END,
            owner = CASE WHEN u.verb IN (1, 11) THEN r.owner END,
            due_at = CASE
                WHEN u.verb = 2 THEN CASE
                    WHEN (r.request IS NOT NULL AND NOT (u.unwinding AND r.request = 1))
                        OR r.mail + u.letters <> u.mail_read
                        OR least(coalesce(u.due, at + u.delay), CASE WHEN NOT u.undoing THEN coalesce(u.ends, r.deadline) END) <= at THEN at
                    ELSE least(coalesce(u.due, at + u.delay), CASE WHEN NOT u.undoing THEN coalesce(u.ends, r.deadline) END) END
                WHEN u.verb = 4 AND r.request IS NULL THEN least(at + u.delay, coalesce(u.ends, r.deadline))
                WHEN u.verb IN (4, 10) THEN at
                ELSE r.due_at END,
            deadline = CASE WHEN u.lasts IS NULL THEN r.deadline ELSE u.ends END,
            finished_at = CASE WHEN u.verb IN (7, 8, 9) THEN at END,
            mail = r.mail + u.letters,
            seen = greatest(r.seen, u.mail_read),
            wake_at_mail = CASE WHEN u.verb = 2 THEN nullif(u.wake, 0) END,
            attempt = CASE u.verb WHEN 4 THEN r.attempt + 1 WHEN 10 THEN 1 ELSE r.attempt END,
            recoveries = CASE WHEN u.verb IN (1, 2, 4, 10) THEN 0 ELSE r.recoveries END,
            floor = CASE WHEN u.verb = 10 THEN u.base ELSE r.floor END,
            continued_at = CASE WHEN u.verb = 10 THEN at ELSE r.continued_at END,
            base = CASE WHEN u.verb <> 10 THEN coalesce(u.base, r.base) END,
            prologue = CASE WHEN u.verb <> 10 THEN coalesce(u.prologue, r.prologue) END,
            request = CASE
                WHEN u.verb IN (7, 8, 9) OR (u.verb = 5 AND r.request = 2) THEN NULL ELSE r.request END,
            cascade = CASE WHEN u.verb IN (8, 9) THEN (
                SELECT true FROM {schema}.run c WHERE c.parent_id = r.run_id AND c.status < 7 AND NOT c.detached LIMIT 1
            ) END,
            output = CASE WHEN u.verb = 7 THEN u.output::json ELSE r.output END,
            error = CASE WHEN u.verb IN (7, 10) THEN NULL ELSE coalesce(u.error::json, r.error) END,
            progress = coalesce(u.progress::json, r.progress),
            progress_at = CASE WHEN u.progress IS NULL AND u.reports IS NULL THEN r.progress_at ELSE at END,
            reports = CASE WHEN u.verb IN (1, 11) THEN coalesce(u.reports::json, r.reports) END,
            input = coalesce(u.input::json, r.input),
            first_input = CASE WHEN u.verb = 10 THEN coalesce(r.first_input, r.input) ELSE r.first_input END
        FROM (
            SELECT run, action & 15 AS verb, action & 16 <> 0 AS urgent, action & 32 <> 0 AS unwinding,
                action & 64 <> 0 AS undoing, claim, u.due, u.delay, coalesce(mail_read, 0) AS mail_read, wake, base,
                prologue, output, error, input, progress, reports, lasts,
                CASE WHEN lasts >= interval '0' THEN at + lasts END AS ends, parent, parent_key,
                coalesce(letters, 0) AS letters
            FROM unnest(r_run, r_action, r_claim, r_due, r_delay, r_mail_read, r_wake, r_base, r_prologue, r_output,
                r_error, r_input, r_progress, r_reports, r_lasts, r_parent, r_parent_key, r_letters)
                AS u(run, action, claim, due, delay, mail_read, wake, base, prologue, output, error, input, progress,
                    reports, lasts, parent, parent_key, letters)
            WHERE action & 15 > 0
                AND (eager OR locked[width_bucket(run, locked)] = run)
                AND (busy IS NULL OR (busy[width_bucket(run, busy)] IS DISTINCT FROM run
                    AND (parent IS NULL OR busy[width_bucket(parent, busy)] IS DISTINCT FROM parent)))
        ) u
        WHERE r.run_id = ANY (ARRAY[u.run]) AND r.owner IS NOT DISTINCT FROM p_session AND r.claim = u.claim
        RETURNING r.run_id, r.status, r.mail
    )
    SELECT array_agg(c.run_id ORDER BY c.run_id), array_agg(c.status::integer ORDER BY c.run_id),
        array_agg(c.run_id) FILTER (WHERE c.status >= 7 AND (c.mail > 0 OR watched))
    INTO landed, landed_status, ended
    FROM changed c;
    IF eager THEN
        patience := set_config('lock_timeout', patience, true);
        IF EXISTS (SELECT 1 FROM {schema}.waiter) THEN
            RAISE EXCEPTION 'flowgen: somebody began to wait for a run' USING ERRCODE = '55P03';
        END IF;
    END IF;

    IF (live IS NOT NULL AND cardinality(r_parent) > 0) OR waiting IS NOT NULL THEN
        WITH changed AS MATERIALIZED (
            SELECT l.run_id, l.status, u.parent, u.parent_key, u.output, u.error, u.action & 16 <> 0 AS urgent
            FROM unnest(r_run, r_action, r_output, r_error, r_parent, r_parent_key)
                AS u(run, action, output, error, parent, parent_key)
            CROSS JOIN LATERAL (SELECT u.run AS run_id, landed_status[width_bucket(u.run, landed)] AS status) l
            WHERE landed[width_bucket(u.run, landed)] = u.run AND l.status >= 7
        ), ends AS (
            SELECT c.run_id, c.parent AS target, c.parent_key AS key, c.urgent, c.status, c.output, c.error,
                true AS counted
            FROM changed c
            WHERE c.parent IS NOT NULL AND live[width_bucket(c.parent, live)] = c.parent
            UNION ALL
            SELECT c.run_id, w.waiting_id, w.key, c.status <> 7, c.status, c.output, c.error, false
            FROM changed c JOIN {schema}.waiter w ON w.run_id = ANY (ARRAY[c.run_id])
            WHERE waiting IS NOT NULL AND waiting[width_bucket(w.waiting_id, waiting)] = w.waiting_id
        ), told AS (
            INSERT INTO {schema}.inbox (run_id, created_at, kind, key, payload)
            SELECT e.target, at, 1, e.key, '{"status":"'
                || CASE e.status WHEN 7 THEN 'completed","output":' || coalesce(e.output, 'null')
                    WHEN 8 THEN 'failed","error":' || coalesce(e.error, 'null')
                    ELSE 'cancelled","error":' || coalesce(e.error, 'null') END
                || ',"run_id":"' || e.run_id || '"}'
            FROM ends e
        )
        SELECT array_agg(e.target), array_agg(e.urgent), array_agg(e.counted) INTO target, urgency, counting
        FROM ends e;
    END IF;

    -- A run that also changed itself has counted the letters of its children above.
    IF target IS NOT NULL THEN
        UPDATE {schema}.run AS r SET
            mail = r.mail + t.letters,
            status = CASE WHEN r.status = 4 AND (t.urgent OR r.mail + t.letters >= coalesce(r.wake_at_mail, 0))
                THEN 0 ELSE r.status END,
            due_at = CASE WHEN r.status = 4 AND (t.urgent OR r.mail + t.letters >= coalesce(r.wake_at_mail, 0))
                THEN at ELSE r.due_at END
        FROM (
            SELECT l.run, count(*)::integer AS letters, bool_or(l.urgent) AS urgent
            FROM unnest(target, urgency, counting) AS l(run, urgent, counted)
            WHERE NOT l.counted OR landed[width_bucket(l.run, landed)] IS DISTINCT FROM l.run
            GROUP BY l.run
        ) t
        WHERE r.run_id = ANY (ARRAY[t.run]) AND r.status < 7;
    END IF;

    IF cardinality(landed) IS DISTINCT FROM cardinality(r_run) THEN
        SELECT array_agg(u.run ORDER BY u.run),
            array_agg(u.run ORDER BY u.run) FILTER (WHERE busy[width_bucket(u.run, busy)] = u.run
                OR busy[width_bucket(u.parent, busy)] = u.parent)
        INTO refused, skipped
        FROM unnest(r_run, r_action, r_parent) AS u(run, action, parent)
        WHERE u.action & 15 > 0 AND (landed IS NULL OR landed[width_bucket(u.run, landed)] IS DISTINCT FROM u.run);
    END IF;

    IF cardinality(e_run) > 0 THEN
        INSERT INTO {schema}.entry
            (run_id, recorded_at, due_at, index, attempt, kind, status, named, key, fingerprint, value)
        SELECT e.run, at, coalesce(e.due, at + e.delay), e.index, e.attempt, e.facts & 15,
            nullif(e.facts >> 4 & 15, 0), e.facts & 256 <> 0, e.key, e.fingerprint, e.value
        FROM unnest(e_run, e_index, e_facts, e_key, e_fingerprint, e_attempt, e_value, e_due, e_delay)
            AS e(run, index, facts, key, fingerprint, attempt, value, due, delay)
        WHERE refused IS NULL OR refused[width_bucket(e.run, refused)] IS DISTINCT FROM e.run;
        IF cardinality(e_due) > 0 OR cardinality(e_delay) > 0 THEN
            SELECT array_agg(e.run), array_agg(e.index), array_agg(coalesce(e.due, at + e.delay))
            INTO due_run, due_index, due
            FROM unnest(e_run, e_index, e_due, e_delay) AS e(run, index, due, delay)
            WHERE coalesce(e.due, at + e.delay) IS NOT NULL
                AND (refused IS NULL OR refused[width_bucket(e.run, refused)] IS DISTINCT FROM e.run);
        END IF;
    END IF;

    IF 10 = ANY (r_action) THEN
        PERFORM {schema}.forget_passes(ARRAY(
            SELECT u.run FROM unnest(r_run, r_action) AS u(run, action)
            WHERE u.action = 10 AND landed[width_bucket(u.run, landed)] = u.run
        ), 200);
    END IF;

    IF cardinality(r_closed) > 0 THEN
        PERFORM {schema}.forget_segments(r_run, r_closed, r_base, landed, 1000);
    END IF;

    IF cardinality(c_run) > 0 THEN
        DELETE FROM {schema}.inbox i USING unnest(c_run, c_id) AS c(run, id)
        WHERE i.run_id = ANY (ARRAY[c.run]) AND i.id = c.id
            AND (refused IS NULL OR refused[width_bucket(c.run, refused)] IS DISTINCT FROM c.run);
    END IF;
    IF ended IS NOT NULL THEN
        -- a failed run may be retried, and then reads what was sent to it
        DELETE FROM {schema}.inbox i
        WHERE i.run_id = ANY (ended) AND NOT (i.kind IN (2, 4) AND landed_status[width_bucket(i.run_id, landed)] = 8);
        IF watched THEN
            DELETE FROM {schema}.waiter w WHERE w.run_id = ANY (ended);
        END IF;
    END IF;

    IF cardinality(k_run) > 0 THEN
        WITH place AS MATERIALIZED (
            SELECT d.name, d.queue, {schema}.is_served(d.name, d.queue) AS served
            FROM (SELECT DISTINCT k.name, k.queue FROM unnest(k_name, k_queue) AS k(name, queue) OFFSET 0) d
        ), born AS (
            INSERT INTO {schema}.run AS n (
                run_id, id, kind, name, queue, priority, input, tags, correlation_id, parent_correlation_id,
                parent_id, parent_key, root_id, depth, detached, trigger, created_at, deadline,
                status, due_at, owner, claim, started_at
            )
            SELECT k.run, k.id, CASE WHEN k.facts & 1 = 1 THEN 'task' ELSE 'workflow' END, k.name, k.queue,
                k.priority, k.input::json,
                CASE WHEN k.tags IS NOT NULL THEN ARRAY(SELECT json_array_elements_text(k.tags::json)) END,
                k.correlation, k.parent_correlation, k.parent, k.parent_key, k.root, k.depth, k.facts & 2 <> 0,
                k.trigger::json, at, at + k.deadline,
                b.status,
                CASE b.status WHEN 1 THEN least(k.begin, at + k.deadline) ELSE at END,
                CASE b.status WHEN 3 THEN p_session END,
                CASE b.status WHEN 3 THEN 1 ELSE 0 END,
                CASE b.status WHEN 3 THEN at END
            FROM (
                SELECT run, id, facts, name, queue, priority, input, coalesce(k.start, at + k.delay) AS begin,
                    k.deadline, tags, correlation, parent_correlation, parent, parent_key, root, depth, trigger
                FROM unnest(k_run, k_id, k_facts, k_name, k_queue, k_priority, k_input, k_at, k_delay, k_deadline,
                    k_tags, k_correlation, k_parent_correlation, k_parent, k_parent_key, k_root, k_depth, k_trigger)
                    AS k(run, id, facts, name, queue, priority, input, start, delay, deadline, tags, correlation,
                        parent_correlation, parent, parent_key, root, depth, trigger)
            ) k
            JOIN place p ON p.name = k.name AND p.queue = k.queue
            CROSS JOIN LATERAL (SELECT CASE WHEN k.begin > at THEN 1 WHEN NOT p.served THEN 2
                WHEN k.facts & 4 <> 0 THEN 3 ELSE 0 END AS status) b
            WHERE refused IS NULL OR refused[width_bucket(k.parent, refused)] IS DISTINCT FROM k.parent
            ON CONFLICT (run_id) DO NOTHING
            RETURNING n.run_id, n.status
        )
        SELECT array_agg(b.run_id) FILTER (WHERE b.status = 3) INTO adopted FROM born b;
    END IF;

    IF p_schedules IS NOT NULL THEN
        PERFORM {schema}.change_schedules(p_schedules, refused);
    END IF;
    IF p_effects IS NOT NULL THEN
        PERFORM {schema}.carry_out(p_effects::json, refused);
    END IF;
    RETURN NEXT;
END
$function$;

-- Several schedules at once, given as JSON; `cron` null removes one. Only for functions that hold a fence, or clients.
-- A schedule whose time is edited starts from its new next time; any other change keeps the time. Of several changes of
-- one schedule, as runs that are committed together may have them, the last one holds.
CREATE FUNCTION {schema}.change_schedules(p_schedules text, p_refused uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    last bigint[] := (
        SELECT array_agg(l.place) FROM (
            SELECT max(s.place) AS place
            FROM ROWS FROM (json_to_recordset(p_schedules::json) AS (run uuid, target text, name text))
                WITH ORDINALITY AS s(run, target, name, place)
            WHERE p_refused IS NULL OR s.run IS NULL OR s.run <> ALL (p_refused)
            GROUP BY s.target, s.name
        ) l
    );
BEGIN
    DELETE FROM {schema}.schedule d
    USING ROWS FROM (json_to_recordset(p_schedules::json) AS (target text, name text, cron text))
        WITH ORDINALITY AS s(target, name, cron, place)
    WHERE s.place = ANY (last) AND s.cron IS NULL AND d.target = s.target AND d.name = s.name;
    INSERT INTO {schema}.schedule AS d (
        schedule_id, target, name, cron, timezone, input, queue, priority, kind, origin, overlap, next_at
    )
    SELECT s.schedule_id, s.target, s.name, s.cron, s.timezone, s.input::json, s.queue, s.priority, s.kind, s.origin,
        s.overlap, s.next_at
    FROM ROWS FROM (json_to_recordset(p_schedules::json) AS (
            schedule_id uuid, target text, name text, cron text, timezone text, input text, queue text,
            priority integer, kind text, origin text, overlap text, next_at timestamptz
        )) WITH ORDINALITY AS s(
            schedule_id, target, name, cron, timezone, input, queue, priority, kind, origin, overlap, next_at, place
        )
    WHERE s.place = ANY (last) AND s.cron IS NOT NULL
    ORDER BY s.target, s.name
    ON CONFLICT (target, name) DO UPDATE SET
        cron = excluded.cron, timezone = excluded.timezone, input = excluded.input, queue = excluded.queue,
        priority = excluded.priority, kind = excluded.kind, origin = excluded.origin, overlap = excluded.overlap,
        next_at = CASE WHEN (d.cron, d.timezone) = (excluded.cron, excluded.timezone) THEN d.next_at
            ELSE excluded.next_at END;
END
$function$;

-- Whether a time window is open.
CREATE FUNCTION {schema}.is_open(p_opens time, p_closes time, p_timezone text) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT CASE WHEN p_opens < p_closes THEN wall.clock >= p_opens AND wall.clock < p_closes
        ELSE wall.clock >= p_opens OR wall.clock < p_closes END
    FROM (SELECT ({schema}.clock() AT TIME ZONE p_timezone)::time AS clock) wall
$function$;

-- The definitions all of whose windows are closed. NULL: none.
CREATE FUNCTION {schema}.closed_names() RETURNS text[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT array_agg(c.name) FROM (
        SELECT w.name FROM {schema}.time_window w GROUP BY w.name
        HAVING NOT bool_or({schema}.is_open(w.opens, w.closes, w.timezone))
    ) c
$function$;

-- Make these the windows of the definitions `p_names`; those of others stay as they are.
CREATE FUNCTION {schema}.declare_windows(p_names text[], p_windows json) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    INSERT INTO {schema}.time_window AS o (name, number, opens, closes, timezone)
    SELECT w.name, w.number, w.opens, w.closes, w.timezone
    FROM json_to_recordset(p_windows) AS w(name text, number integer, opens time, closes time, timezone text)
    ORDER BY w.name, w.number
    ON CONFLICT (name, number) DO UPDATE SET
        opens = excluded.opens, closes = excluded.closes, timezone = excluded.timezone
    WHERE (o.opens, o.closes, o.timezone) <> (excluded.opens, excluded.closes, excluded.timezone);
    DELETE FROM {schema}.time_window o
    WHERE o.name = ANY (p_names) AND NOT EXISTS (
        SELECT 1 FROM json_to_recordset(p_windows) AS w(name text, number integer)
        WHERE w.name = o.name AND w.number = o.number
    );
END
$function$;

-- Whether a ready run of this name and queue can be claimed by anyone: a live worker knows it, it is not paused, and a
-- window of it is open.
CREATE FUNCTION {schema}.is_served(p_name text, p_queue text) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp SET jit = off
AS $function$
    SELECT EXISTS (
        SELECT 1 FROM {schema}.worker w
        WHERE NOT w.dead AND w.lease_until > {schema}.clock() AND p_name = ANY (w.names)
            AND (w.queues IS NULL OR p_queue = ANY (w.queues))
    ) AND NOT EXISTS (SELECT 1 FROM {schema}.queue q WHERE q.name = p_queue AND q.paused)
    AND (
        SELECT coalesce(bool_or({schema}.is_open(t.opens, t.closes, t.timezone)), true)
        FROM {schema}.time_window t WHERE t.name = p_name
    )
$function$;
