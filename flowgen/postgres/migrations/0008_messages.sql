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

-- One message to the run that an id may mean: the first of `p_to` that is there. One row, or none: there is no such run.
CREATE FUNCTION {schema}.post(p_to uuid[], p_kind integer, p_key text, p_payload text)
RETURNS TABLE (run_id uuid, name text, status integer, told boolean)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    target record;
BEGIN
    SELECT r.run_id, r.name INTO target FROM {schema}.run r WHERE r.run_id = ANY (p_to)
    ORDER BY array_position(p_to, r.run_id) LIMIT 1;
    IF FOUND THEN
        RETURN QUERY SELECT d.run_id, target.name, d.status, d.told
        FROM {schema}.deliver(ARRAY[target.run_id], ARRAY[p_kind], ARRAY[p_key], ARRAY[p_payload]) d;
    END IF;
END
$function$;

-- Send a signal from SQL, in the caller's transaction, to the run with this id, or this UUID. An error when there is none,
-- or when it has ended.
CREATE FUNCTION {schema}.signal(id text, name text, payload json DEFAULT 'null') RETURNS void LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_variable
DECLARE
    given text := $1;
    target uuid[] := ARRAY[{schema}.run_id_for($1)];
    reached record;
BEGIN
    IF $2 IS NULL OR btrim($2) = '' OR octet_length($2) > 200 OR $2 ~ '[\x01-\x1f\x7f/#]' THEN
        RAISE EXCEPTION 'flowgen: % is not the name of a signal', coalesce(quote_literal(left($2, 80)), 'NULL')
            USING ERRCODE = '22023', HINT = '1 to 200 bytes, no control characters, / or #';
    END IF;
    IF given ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' THEN
        target := target || given::uuid;
    END IF;
    -- U+2400 is the codec's escape
    SELECT p.* INTO reached FROM {schema}.post(target, 2, $2,
        replace(coalesce($3::text, 'null'), U&'\2400', U&'\2400\2400')) p;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'flowgen: no run has the id %', coalesce(quote_literal(left(given, 80)), 'NULL')
            USING ERRCODE = 'P0002', HINT = 'a run that is started in a transaction is there when that has committed';
    ELSIF NOT reached.told THEN
        RAISE EXCEPTION 'flowgen: the run % (%) is %: nothing waits for a signal any more',
            quote_literal(left(given, 80)), reached.name,
            (ARRAY['completed', 'failed', 'cancelled'])[reached.status - 6] USING ERRCODE = '55000';
    END IF;
END
$function$;

-- A signal that a run sends, with the outcome of its command. `what` is fenced, lost (the sender is not ours), sent,
-- missing or ended; nothing is written then but with `sent`. Waits for the rows of both runs.
CREATE FUNCTION {schema}.send_signal(
    p_session uuid, p_epoch integer, p_claim integer,
    e_run uuid[], e_index integer[], e_facts integer[], e_key text[], e_fingerprint text[], e_attempt integer[],
    e_value text[], e_due timestamptz[], e_delay interval[],
    p_sender uuid, p_to uuid[], p_name text, p_payload text
) RETURNS TABLE (what text, at timestamptz, name text, status integer)
LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
#variable_conflict use_column
DECLARE
    target record;
    written record;
BEGIN
    at := {schema}.clock();
    what := 'fenced';
    PERFORM 1 FROM {schema}.worker w
    WHERE w.worker_id = p_session AND w.epoch = p_epoch AND NOT w.dead AND w.lease_until > {schema}.clock()
        AND w.timeline = {schema}.timeline() AND w.system_identifier = {schema}.system_identifier()
    FOR KEY SHARE;
    IF NOT FOUND THEN
        RETURN NEXT;
        RETURN;
    END IF;
    PERFORM 1 FROM {schema}.run r WHERE r.run_id = p_sender OR r.run_id = ANY (p_to)
    ORDER BY r.run_id FOR NO KEY UPDATE;
    PERFORM 1 FROM {schema}.run r
    WHERE r.run_id = p_sender AND r.owner IS NOT DISTINCT FROM p_session AND r.claim = p_claim;
    IF NOT FOUND THEN
        what := 'lost';
        RETURN NEXT;
        RETURN;
    END IF;
    SELECT r.run_id, r.name, r.status INTO target FROM {schema}.run r WHERE r.run_id = ANY (p_to)
    ORDER BY array_position(p_to, r.run_id) LIMIT 1;
    what := CASE WHEN NOT FOUND THEN 'missing' WHEN target.status >= 7 THEN 'ended' ELSE 'sent' END;
    name := target.name;
    status := target.status;
    IF what = 'sent' THEN
        PERFORM {schema}.deliver(ARRAY[target.run_id], ARRAY[2], ARRAY[p_name], ARRAY[p_payload]);
        SELECT f.fenced INTO written FROM {schema}.flush_entries(
            p_session, p_epoch, e_run, e_index, e_facts, e_key, e_fingerprint, e_attempt, e_value, e_due, e_delay, '{}', '{}'
        ) f;
        IF written.fenced THEN
            RAISE EXCEPTION 'the lease of session % is over', p_session USING ERRCODE = 'FG001';
        END IF;
    END IF;
    RETURN NEXT;
END
$function$;

-- What this schema signs with. Whoever can read it can make completion tokens.
CREATE TABLE {schema}.secret (
    name text NOT NULL,
    value bytea NOT NULL,
    made_at timestamptz NOT NULL,
    CONSTRAINT secret_pkey PRIMARY KEY (name)
);

INSERT INTO {schema}.secret (name, value, made_at)
SELECT 'token', pg_catalog.sha256(pg_catalog.string_agg(pg_catalog.uuid_send(pg_catalog.gen_random_uuid()), '')),
    {schema}.clock()
FROM pg_catalog.generate_series(1, 4);

-- HMAC-SHA256 of a token's body; the same as flowgen.core.tokens.
CREATE FUNCTION {schema}.token_mac(body bytea) RETURNS bytea LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT sha256(k.outside || sha256(k.inside || $1))
    FROM (
        SELECT string_agg(set_byte('\x00', 0, coalesce(get_byte(s.value, i), 0) # 92), '' ORDER BY i) AS outside,
            string_agg(set_byte('\x00', 0, coalesce(get_byte(s.value, i), 0) # 54), '' ORDER BY i) AS inside
        FROM (SELECT value || decode(repeat('00', 64 - octet_length(value)), 'hex') AS value
            FROM {schema}.secret WHERE name = 'token') s, generate_series(0, 63) AS i
    ) k
$function$;

-- Use a completion token: its run is told `p_payload`. Gives what came of it: used (now), again (it was used before), late
-- (its time has passed), over (its run has ended), or nothing that tells more: unknown.
CREATE FUNCTION {schema}.use_token(p_token text, p_payload text) RETURNS text LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
DECLARE
    body bytea;
    mac bytea;
    due bigint;
    target uuid;
    token text;
    state integer;
BEGIN
    IF p_token IS NULL OR p_token !~ '^flowgen_[A-Za-z0-9_-]{96}$' THEN
        RETURN 'unknown';
    END IF;
    body := decode(translate(substr(p_token, 9), '-_', '+/'), 'base64');
    mac := substring(body FROM 41);
    body := substring(body FROM 1 FOR 40);
    -- Of what is compared here nothing can be learnt by the time that it takes.
    IF {schema}.token_mac(mac) <> {schema}.token_mac({schema}.token_mac(body)) THEN
        RETURN 'unknown';
    END IF;
    target := encode(substring(body FROM 1 FOR 16), 'hex')::uuid;
    token := (encode(substring(body FROM 17 FOR 16), 'hex')::uuid)::text;
    due := ('x' || encode(substring(body FROM 33 FOR 8), 'hex'))::bit(64)::bigint;
    SELECT r.status INTO state FROM {schema}.run r WHERE r.run_id = target FOR NO KEY UPDATE;
    IF NOT FOUND OR state >= 7 THEN
        RETURN 'over';
    END IF;
    PERFORM 1 FROM {schema}.inbox i WHERE i.run_id = target AND i.kind = 4 AND i.key = token;
    IF FOUND THEN
        RETURN 'again';
    ELSIF due <> 0 AND (extract(epoch FROM {schema}.clock()) * 1000000)::bigint >= due THEN
        RETURN 'late';
    END IF;
    PERFORM {schema}.deliver(ARRAY[target], ARRAY[4], ARRAY[token], ARRAY[p_payload]);
    RETURN 'used';
END
$function$;
