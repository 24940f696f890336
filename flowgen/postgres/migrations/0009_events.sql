-- Events: insert-only rows, kept for a while. Who is triggered by one is started in the emitter's transaction; who waits
-- for one is told after its commit, by a worker.
--
-- Ids are given before the commit, so their order is not that of commits, and who has seen event 7 may still have to see
-- event 6. So an event has its place in the order, `known_at`, only when a worker sees it committed: workers give places
-- one at a time, each behind all that were given. Whoever knows the place of the last event that it was given needs no
-- more to be given the next one.
--
-- A wait is registered by its run, marked `fresh`. The same function that gives places looks for an event for each fresh
-- wait, and marks the waits that a new event fits. An event and a wait of different transactions always meet: both are
-- looked at after their commits, and the one that was committed later finds the other. No emitter waits for anybody, and
-- nobody waits for an emitter.
CREATE TABLE {schema}.event (
    number bigint GENERATED ALWAYS AS IDENTITY,
    event_id uuid NOT NULL,
    emitted_at timestamptz NOT NULL,
    known_at timestamptz,                -- its place in the order; no two have the same. NULL: nobody has looked yet
    name text NOT NULL,
    payload text NOT NULL,               -- JSON, exactly as the codec made it
    correlation_id text,
    CONSTRAINT event_pkey PRIMARY KEY (event_id)
);

CREATE INDEX event_new ON {schema}.event (number) WHERE known_at IS NULL;
CREATE INDEX event_known ON {schema}.event (name, known_at) WHERE known_at IS NOT NULL;
CREATE INDEX event_age ON {schema}.event (known_at) WHERE known_at IS NOT NULL;

-- Registered waits. `shape` is the path of the first equality of the filter, as JSON, and `probe` the hash of its value:
-- an event finds the waits for it by an index, however many others wait for its name. '' and 0: there is none.
CREATE TABLE {schema}.event_wait (
    run_id uuid NOT NULL,
    after timestamptz,                   -- behind the event of this place; NULL: emitted after `since`
    since timestamptz NOT NULL,          -- the start of the run
    found timestamptz,                   -- the place of an event that fits, which came while it was registered
    probe bigint NOT NULL,
    fresh boolean NOT NULL,              -- an event is to be looked for
    key text NOT NULL,
    name text NOT NULL,
    fingerprint text NOT NULL,
    shape text NOT NULL,
    filter jsonb,
    CONSTRAINT event_wait_pkey PRIMARY KEY (run_id, key)
);

CREATE INDEX event_wait_fresh ON {schema}.event_wait (run_id, key) WHERE fresh;
CREATE INDEX event_wait_name ON {schema}.event_wait (name, shape, probe);

-- Which definitions an event starts; kept by the workers that know them.
CREATE TABLE {schema}.event_trigger (
    target text NOT NULL,
    number integer NOT NULL,
    event text NOT NULL,
    filter jsonb,
    fields text[],
    queue text NOT NULL,
    priority integer NOT NULL,
    kind text NOT NULL,
    deadline interval,
    CONSTRAINT event_trigger_pkey PRIMARY KEY (target, number)
);

CREATE INDEX event_trigger_event ON {schema}.event_trigger (event);

-- What filters look at. NULL when they cannot: it is sealed by a codec, or jsonb cannot hold it.
CREATE FUNCTION {schema}.event_body(payload text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    IF payload LIKE U&'"\2400c%' THEN
        RETURN NULL;
    END IF;
    RETURN payload::jsonb;
EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
    RETURN NULL;
END
$function$;

-- Which of two values comes first: below 0, 0, above 0. NULL: they have no order.
CREATE FUNCTION {schema}.event_order(one jsonb, other jsonb) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT CASE
        WHEN jsonb_typeof(one) <> jsonb_typeof(other) THEN NULL
        WHEN jsonb_typeof(one) = 'number' THEN one::numeric - other::numeric
        WHEN jsonb_typeof(one) <> 'string' THEN NULL
        WHEN (one #>> '{}') COLLATE "C" < (other #>> '{}') THEN -1
        ELSE ((one #>> '{}') <> (other #>> '{}'))::integer END
$function$;

-- Whether a filter of flowgen.core.filters, [[path, operator, value], ...], fits. The only place that reads one.
CREATE FUNCTION {schema}.event_matches(body jsonb, filter jsonb) RETURNS boolean LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    condition jsonb;
    found jsonb;
    wanted jsonb;
    fits boolean;
BEGIN
    IF filter IS NULL THEN
        RETURN true;
    END IF;
    IF body IS NULL THEN
        RETURN false;
    END IF;
    FOR condition IN SELECT c.value FROM jsonb_array_elements(filter) AS c(value) LOOP
        found := body #> ARRAY(SELECT p.part FROM jsonb_array_elements_text(condition -> 0) AS p(part));
        wanted := condition -> 2;
        fits := CASE condition ->> 1
            WHEN 'exists' THEN (found IS NOT NULL) = (wanted = 'true')
            WHEN 'eq' THEN found = wanted
            WHEN 'ne' THEN found <> wanted
            WHEN 'in' THEN EXISTS (SELECT 1 FROM jsonb_array_elements(wanted) AS w(value) WHERE w.value = found)
            WHEN 'gt' THEN {schema}.event_order(found, wanted) > 0
            WHEN 'ge' THEN {schema}.event_order(found, wanted) >= 0
            WHEN 'lt' THEN {schema}.event_order(found, wanted) < 0
            WHEN 'le' THEN {schema}.event_order(found, wanted) <= 0
        END;
        IF fits IS NOT TRUE THEN
            RETURN false;
        END IF;
    END LOOP;
    RETURN true;
END
$function$;

-- Whether one of the fields has changed: it is among `changed` of the payload, which table triggers give. Without such a
-- list, whether the payload has one of them.
CREATE FUNCTION {schema}.event_concerns(body jsonb, fields text[]) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT fields IS NULL OR coalesce(EXISTS (
        SELECT 1 FROM unnest(fields) AS f(field)
        WHERE CASE WHEN jsonb_typeof(body -> 'changed') = 'array' THEN jsonb_exists(body -> 'changed', f.field)
            ELSE body #> string_to_array(f.field, '.') IS NOT NULL END
    ), false)
$function$;

-- By what an event finds the waits of a shape. NULL: its payload has nothing there.
CREATE FUNCTION {schema}.event_probe(body jsonb, shape text) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT CASE WHEN shape = '' THEN 0 ELSE jsonb_hash_extended(
        body #> ARRAY(SELECT p.part FROM jsonb_array_elements_text(shape::jsonb) AS p(part)), 0) END
$function$;

-- Insert events and start what they trigger, in the caller's transaction. A run's id is derived from event and definition
-- (flowgen.postgres.events.triggered_run_id), so that one event starts one run of each, however often it is sent.
CREATE FUNCTION {schema}.emit_events(p_events json, p_refused uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
DECLARE
    moment timestamptz := {schema}.clock();
    made uuid[];
BEGIN
    WITH inserted AS (
        INSERT INTO {schema}.event AS n (event_id, emitted_at, name, payload, correlation_id)
        SELECT e.event_id, moment, e.name, e.payload, e.correlation
        FROM ROWS FROM (json_to_recordset(p_events) AS (
            run uuid, event_id uuid, name text, payload text, correlation text
        )) WITH ORDINALITY AS e(run, event_id, name, payload, correlation, place)
        WHERE p_refused IS NULL OR e.run IS NULL OR e.run <> ALL (p_refused)
        ORDER BY e.place
        ON CONFLICT (event_id) DO NOTHING
        RETURNING n.event_id, n.name
    )
    SELECT array_agg(i.event_id) FILTER (
        WHERE EXISTS (SELECT 1 FROM {schema}.event_trigger t WHERE t.event = i.name)
    ) INTO made FROM inserted i;
    IF made IS NULL THEN
        RETURN;
    END IF;
    INSERT INTO {schema}.run (
        run_id, created_at, priority, deadline, due_at, status, queue, name, kind, input, correlation_id,
        parent_correlation_id, trigger
    )
    SELECT DISTINCT ON (e.place, t.target) {schema}.event_run_id(e.event_id, t.target), moment, t.priority,
        moment + t.deadline, moment, 0, t.queue, t.target, t.kind, e.input::json, e.correlation, e.correlation,
        json_build_object('kind', 'event', 'name', e.name, 'event', e.event_id)
    FROM ROWS FROM (json_to_recordset(p_events) AS (
        event_id uuid, name text, payload text, input text, correlation text
    )) WITH ORDINALITY AS e(event_id, name, payload, input, correlation, place)
    CROSS JOIN LATERAL (SELECT {schema}.event_body(e.payload) AS body OFFSET 0) b
    JOIN {schema}.event_trigger t ON t.event = ANY (ARRAY[e.name])
    WHERE e.event_id = ANY (made) AND {schema}.event_concerns(b.body, t.fields)
        AND {schema}.event_matches(b.body, t.filter)
    ORDER BY e.place, t.target, t.number
    ON CONFLICT (run_id) DO NOTHING;
END
$function$;

-- 128 bits of sha256(event_id, 0x1f, target), as a UUIDv8. The same as flowgen.core.ids.
CREATE FUNCTION {schema}.event_run_id(event_id uuid, target text) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT encode(set_byte(set_byte(b, 6, get_byte(b, 6) & 15 | 128), 8, get_byte(b, 8) & 63 | 128), 'hex')::uuid
    FROM (SELECT substring(sha256(convert_to($1::text, 'UTF8') || '\x1f'::bytea || convert_to($2, 'UTF8')) FOR 16)) d (b)
$function$;

-- Emit an event from SQL, in the caller's transaction, and give its id: the runs that it triggers exist if and only if
-- the transaction commits, and whoever waits for it is told after the commit.
CREATE FUNCTION {schema}.emit(name text, payload json DEFAULT 'null', correlation_id text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $function$
DECLARE
    made uuid := {schema}.new_run_id();
    -- U+2400 is the codec's escape
    stored text := replace(coalesce($2, 'null')::text, U&'\2400', U&'\2400\2400');
BEGIN
    IF $1 IS NULL OR btrim($1) = '' OR octet_length($1) > 200 OR $1 ~ '[\x01-\x1f\x7f/#]' THEN
        RAISE EXCEPTION 'flowgen: % is not the name of an event', coalesce(quote_literal(left($1, 80)), 'NULL')
            USING ERRCODE = '22023', HINT = '1 to 200 bytes, no control characters, / or #';
    END IF;
    PERFORM {schema}.emit_events(json_build_array(json_build_object(
        'event_id', made, 'name', $1, 'payload', stored, 'correlation', $3,
        'input', CASE WHEN json_typeof($2) = 'object' THEN '[[],' || stored || ']'
            ELSE '[[' || stored || '],{}]' END
    )), NULL);
    RETURN made::text;
END
$function$;

-- What a commit of runs does beside their entries. Only for functions that hold a fence.
CREATE FUNCTION {schema}.carry_out(p_effects json, p_refused uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
DECLARE
    listens json := p_effects -> 'listens';
    quits json := p_effects -> 'quits';
BEGIN
    IF json_array_length(p_effects -> 'emits') > 0 THEN
        PERFORM {schema}.emit_events(p_effects -> 'emits', p_refused);
    END IF;
    IF json_array_length(p_effects -> 'unwanted') > 0 THEN
        INSERT INTO {schema}.unwanted (run_id)
        SELECT c.run_id FROM json_to_recordset(p_effects -> 'unwanted') AS u(run uuid, child uuid)
        JOIN {schema}.run c ON c.run_id = ANY (ARRAY[u.child])
        WHERE c.parent_id IS NOT DISTINCT FROM u.run AND c.status < 7 AND c.request IS DISTINCT FROM 1
            AND (p_refused IS NULL OR u.run <> ALL (p_refused));
    END IF;
    IF json_array_length(listens) + json_array_length(quits) = 0 THEN
        RETURN;
    END IF;
    PERFORM 1 FROM (
        SELECT q.run, q.key FROM json_to_recordset(quits) AS q(run uuid, key text)
        UNION ALL
        SELECT l.run, l.key FROM json_to_recordset(listens) AS l(run uuid, key text)
    ) n
    JOIN {schema}.event_wait w ON w.run_id = ANY (ARRAY[n.run]) AND w.key = n.key
    ORDER BY w.run_id, w.key FOR UPDATE OF w;
    INSERT INTO {schema}.event_wait AS o (
        run_id, after, since, probe, fresh, key, name, fingerprint, shape, filter
    )
    SELECT l.run, l.after, r.created_at,
        CASE WHEN f.equality IS NULL THEN 0 ELSE jsonb_hash_extended(f.equality -> 2, 0) END, true, l.key, l.name,
        l.fingerprint, coalesce((f.equality -> 0)::text, ''), l.filter::jsonb
    FROM json_to_recordset(listens) AS l(
        run uuid, key text, name text, fingerprint text, filter text, after timestamptz
    )
    CROSS JOIN LATERAL (
        SELECT CASE WHEN l.filter::jsonb #>> '{0,1}' = 'eq' THEN l.filter::jsonb -> 0 END AS equality
    ) f
    JOIN {schema}.run r ON r.run_id = ANY (ARRAY[l.run])
    WHERE p_refused IS NULL OR l.run <> ALL (p_refused)
    ORDER BY l.run, l.key
    ON CONFLICT (run_id, key) DO UPDATE SET
        after = excluded.after, found = NULL, probe = excluded.probe, fresh = true, name = excluded.name,
        fingerprint = excluded.fingerprint, shape = excluded.shape, filter = excluded.filter
    WHERE (o.fingerprint, o.after) IS DISTINCT FROM (excluded.fingerprint, excluded.after);
    -- What was delivered meanwhile goes too: the registration is gone first, so nothing more is.
    DELETE FROM {schema}.event_wait w USING json_to_recordset(quits) AS q(run uuid, key text)
    WHERE w.run_id = ANY (ARRAY[q.run]) AND w.key = q.key AND (p_refused IS NULL OR q.run <> ALL (p_refused));
    DELETE FROM {schema}.inbox i USING json_to_recordset(quits) AS q(run uuid, key text)
    WHERE i.run_id = ANY (ARRAY[q.run]) AND i.kind = 3 AND i.key = q.key
        AND (p_refused IS NULL OR q.run <> ALL (p_refused));
END
$function$;

-- New events get their places; each wait that one of them fits, and each wait that is new, is given the first event that
-- fits it and has its place behind the one before. `more`: call again.
--
-- A wait whose run's row is locked elsewhere stays fresh. Waits are locked in the order of run_id and key, and may wait
-- for a flush; rows of `run` after them with SKIP LOCKED, so that no flush can wait for this in a circle.
CREATE FUNCTION {schema}.tell_events(p_limit integer) RETURNS TABLE (busy boolean, waits integer, more boolean)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    last timestamptz;
    fresh text[];       -- names of the new events
    counted integer := 0;
    w_run uuid[];
    w_key text[];
    w_found timestamptz[];
    w_letter text[];    -- NULL: no event fits
    looked integer := 0;
    told uuid[];        -- runs that were told, or have ended
BEGIN
    busy := false;
    waits := 0;
    more := false;
    IF NOT EXISTS (SELECT 1 FROM {schema}.event e WHERE e.known_at IS NULL)
        AND NOT EXISTS (SELECT 1 FROM {schema}.event_wait w WHERE w.fresh) THEN
        RETURN NEXT;
        RETURN;
    END IF;
    IF NOT pg_try_advisory_xact_lock(hashtext('flowgen events ' || {schema_text}), 0) THEN
        busy := true;
        RETURN NEXT;
        RETURN;
    END IF;
    last := greatest({schema}.clock(), (
        SELECT e.known_at FROM {schema}.event e WHERE e.known_at IS NOT NULL ORDER BY e.known_at DESC LIMIT 1
    ));
    WITH found AS MATERIALIZED (
        SELECT n.event_id, row_number() OVER (ORDER BY n.number) AS place FROM (
            SELECT e.event_id, e.number FROM {schema}.event e WHERE e.known_at IS NULL ORDER BY e.number LIMIT p_limit
        ) n
    ), known AS (
        UPDATE {schema}.event AS e SET known_at = last + f.place * interval '1 microsecond'
        FROM found f WHERE e.event_id = ANY (ARRAY[f.event_id]) RETURNING e.name
    )
    SELECT array_agg(DISTINCT k.name), count(*) INTO fresh, counted FROM known k;

    IF counted > 0 THEN
        WITH RECURSIVE shape AS (
            SELECT f.name, w.shape FROM unnest(fresh) AS f(name) CROSS JOIN LATERAL (
                SELECT w.shape FROM {schema}.event_wait w WHERE w.name = f.name ORDER BY w.shape LIMIT 1
            ) w
            UNION ALL
            SELECT s.name, w.shape FROM shape s CROSS JOIN LATERAL (
                SELECT w.shape FROM {schema}.event_wait w WHERE w.name = s.name AND w.shape > s.shape
                ORDER BY w.shape LIMIT 1
            ) w
        ), asked AS MATERIALIZED (
            SELECT e.name, e.known_at, e.body, s.shape, {schema}.event_probe(e.body, s.shape) AS probe
            FROM (
                SELECT e.name, e.known_at, {schema}.event_body(e.payload) AS body FROM {schema}.event e
                WHERE e.known_at > last AND e.known_at IS NOT NULL AND e.name = ANY (ARRAY(SELECT s.name FROM shape s))
                OFFSET 0
            ) e
            JOIN shape s ON s.name = e.name
        )
        SELECT array_agg(f.run_id), array_agg(f.key), array_agg(f.known_at) INTO w_run, w_key, w_found FROM (
            SELECT w.run_id, w.key, min(a.known_at) AS known_at
            FROM asked a
            CROSS JOIN LATERAL (  -- by the index, whatever the plan is made for
                SELECT w.run_id, w.key FROM {schema}.event_wait w
                WHERE w.name = a.name AND w.shape = a.shape AND w.probe = a.probe AND NOT w.fresh
                    AND (w.filter IS NULL OR {schema}.event_matches(a.body, w.filter))
                OFFSET 0
            ) w
            GROUP BY w.run_id, w.key
        ) f;
        PERFORM 1 FROM unnest(w_run, w_key) AS f(run, key)
        JOIN {schema}.event_wait w ON w.run_id = ANY (ARRAY[f.run]) AND w.key = f.key
        ORDER BY w.run_id, w.key FOR UPDATE OF w;
        UPDATE {schema}.event_wait AS w SET fresh = true, found = f.known_at
        FROM unnest(w_run, w_key, w_found) AS f(run, key, known_at)
        WHERE w.run_id = ANY (ARRAY[f.run]) AND w.key = f.key AND NOT w.fresh;
    END IF;

    WITH batch AS MATERIALIZED (
        SELECT w.* FROM {schema}.event_wait w WHERE w.fresh ORDER BY w.run_id, w.key LIMIT p_limit FOR UPDATE OF w
    )
    SELECT array_agg(b.run_id), array_agg(b.key), count(*),
        array_agg('{"payload":' || e.payload || ',"at":' || (extract(epoch FROM e.known_at) * 1000000)::bigint
            || ',"of":' || to_json(b.fingerprint) || '}')
    INTO w_run, w_key, looked, w_letter
    FROM batch b
    LEFT JOIN LATERAL (
        SELECT e.known_at, e.payload FROM {schema}.event e
        WHERE e.name = b.name AND e.known_at IS NOT NULL
            AND e.known_at >= coalesce(b.found, b.after + interval '1 microsecond', b.since)
            AND (b.found IS NOT NULL OR b.after IS NOT NULL OR e.emitted_at >= b.since)
            AND (b.found IS NOT NULL OR b.filter IS NULL
                OR {schema}.event_matches({schema}.event_body(e.payload), b.filter))
        ORDER BY e.known_at LIMIT 1
    ) e ON true;

    IF looked > 0 THEN
        SELECT array_agg(d.run_id) INTO told
        FROM {schema}.deliver(
            ARRAY(SELECT u.run FROM unnest(w_run, w_letter) WITH ORDINALITY AS u(run, letter, place)
                WHERE u.letter IS NOT NULL ORDER BY u.place),
            ARRAY(SELECT 3 FROM unnest(w_letter) AS u(letter) WHERE u.letter IS NOT NULL),
            ARRAY(SELECT u.key FROM unnest(w_key, w_letter) WITH ORDINALITY AS u(key, letter, place)
                WHERE u.letter IS NOT NULL ORDER BY u.place),
            ARRAY(SELECT u.letter FROM unnest(w_letter) WITH ORDINALITY AS u(letter, place)
                WHERE u.letter IS NOT NULL ORDER BY u.place),
            false
        ) d WHERE d.told OR coalesce(d.status, 9) >= 7;
        DELETE FROM {schema}.event_wait w
        USING (
            SELECT u.run, u.key FROM unnest(w_run, w_key, w_letter) AS u(run, key, letter)
            WHERE u.letter IS NOT NULL AND told[width_bucket(u.run, told)] = u.run OFFSET 0
        ) d
        WHERE w.run_id = ANY (ARRAY[d.run]) AND w.key = d.key;
        GET DIAGNOSTICS waits = ROW_COUNT;
        UPDATE {schema}.event_wait AS w SET fresh = false
        FROM (
            SELECT u.run, u.key FROM unnest(w_run, w_key, w_letter) AS u(run, key, letter) WHERE u.letter IS NULL OFFSET 0
        ) d
        WHERE w.run_id = ANY (ARRAY[d.run]) AND w.key = d.key;
    END IF;
    more := counted >= p_limit OR (looked >= p_limit AND waits > 0);
    RETURN NEXT;
END
$function$;

-- Delete events that are known for longer than `p_keep`, and waits of runs that have ended without saying so: of
-- `p_limit` waits behind the run `p_after`. `after` is where to go on; NULL: that was all.
CREATE FUNCTION {schema}.sweep_events(p_keep interval, p_after uuid, p_limit integer)
RETURNS TABLE (events integer, after uuid)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    runs uuid[];
BEGIN
    WITH old AS MATERIALIZED (
        SELECT e.event_id FROM {schema}.event e WHERE e.known_at IS NOT NULL AND e.known_at < {schema}.clock() - p_keep
        ORDER BY e.known_at LIMIT p_limit FOR UPDATE OF e SKIP LOCKED
    )
    DELETE FROM {schema}.event e USING old o WHERE e.event_id = ANY (ARRAY[o.event_id]);
    GET DIAGNOSTICS events = ROW_COUNT;
    runs := ARRAY(
        SELECT w.run_id FROM {schema}.event_wait w WHERE w.run_id > p_after ORDER BY w.run_id, w.key LIMIT p_limit
    );
    after := CASE WHEN cardinality(runs) = p_limit THEN runs[p_limit] END;
    WITH over AS MATERIALIZED (
        SELECT w.run_id, w.key FROM {schema}.event_wait w
        WHERE w.run_id = ANY (runs)
            AND coalesce((SELECT r.status FROM {schema}.run r WHERE r.run_id = w.run_id), 9) >= 7
        FOR UPDATE OF w SKIP LOCKED
    )
    DELETE FROM {schema}.event_wait w USING over o WHERE w.run_id = ANY (ARRAY[o.run_id]) AND w.key = o.key;
    RETURN NEXT;
END
$function$;

-- Make these the event triggers of these definitions; writes only what differs.
CREATE FUNCTION {schema}.declare_triggers(p_targets text[], p_triggers json) RETURNS void
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $function$
BEGIN
    INSERT INTO {schema}.event_trigger AS o (target, number, event, filter, fields, queue, priority, kind, deadline)
    SELECT t.target, t.number, t.event, t.filter::jsonb,
        CASE WHEN t.fields IS NOT NULL THEN ARRAY(SELECT json_array_elements_text(t.fields)) END,
        t.queue, t.priority, t.kind, t.deadline
    FROM json_to_recordset(p_triggers) AS t(
        target text, number integer, event text, filter text, fields json, queue text, priority integer, kind text,
        deadline interval
    )
    ORDER BY t.target, t.number
    ON CONFLICT (target, number) DO UPDATE SET
        event = excluded.event, filter = excluded.filter, fields = excluded.fields, queue = excluded.queue,
        priority = excluded.priority, kind = excluded.kind, deadline = excluded.deadline
    WHERE (o.event, o.filter, o.fields, o.queue, o.priority, o.kind, o.deadline)
        IS DISTINCT FROM (excluded.event, excluded.filter, excluded.fields, excluded.queue, excluded.priority,
            excluded.kind, excluded.deadline);
    DELETE FROM {schema}.event_trigger o
    WHERE o.target = ANY (p_targets) AND NOT EXISTS (
        SELECT 1 FROM json_to_recordset(p_triggers) AS t(target text, number integer)
        WHERE t.target = o.target AND t.number = o.number
    );
END
$function$;
