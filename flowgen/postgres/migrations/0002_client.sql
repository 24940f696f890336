-- What clients call: the UUIDs of runs, a start for users of SQL, and the question that waiters ask.

-- The run_id of an author's id: 128 bits of sha256(schema, 0x1f, id), as a UUIDv8. The same as flowgen.core.ids.
CREATE FUNCTION {schema}.run_id_for(id text) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT encode(set_byte(set_byte(b, 6, get_byte(b, 6) & 15 | 128), 8, get_byte(b, 8) & 63 | 128), 'hex')::uuid
    FROM (SELECT substring(sha256(convert_to({schema_text}, 'UTF8') || '\x1f'::bytea || convert_to($1, 'UTF8')) FOR 16)) d (b)
$function$;

-- A fresh UUIDv7.
CREATE FUNCTION {schema}.new_run_id() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $function$
    SELECT encode(set_byte(overlay(uuid_send(gen_random_uuid()) PLACING t.stamp FROM 1 FOR 6), 6,
        get_byte(uuid_send(gen_random_uuid()), 6) & 15 | 112), 'hex')::uuid
    FROM (SELECT substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)) t (stamp)
$function$;

-- Start a run from SQL, in the caller's transaction, and give its id. An id that exists attaches when the run has the
-- same name and input, in any state; otherwise it is an error that names both. The input of one that went on as new is
-- that of its first pass.
CREATE FUNCTION {schema}.start(
    name text,
    input json DEFAULT '{}',
    id text DEFAULT NULL,
    queue text DEFAULT 'default',
    priority integer DEFAULT 0,
    delay interval DEFAULT NULL,
    at timestamptz DEFAULT NULL,
    deadline interval DEFAULT NULL,
    tags text[] DEFAULT '{}',
    correlation_id text DEFAULT NULL,
    kind text DEFAULT 'workflow'
) RETURNS text LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $function$
#variable_conflict use_column
DECLARE
    made uuid := CASE WHEN $3 IS NULL THEN {schema}.new_run_id() ELSE {schema}.run_id_for($3) END;
    moment timestamptz := {schema}.clock();
    wake timestamptz := coalesce($7, moment + $6, moment);
    found_name text;
    found_input text;
    went_on boolean;
    -- U+2400 is the codec's escape
    stored text := replace($2::text, U&'\2400', U&'\2400\2400');
    same boolean;
BEGIN
    IF $1 IS NULL OR btrim($1) = '' OR octet_length($1) > 200 OR $1 ~ '[\x01-\x1f\x7f/#]' THEN
        RAISE EXCEPTION 'flowgen: % is not the name of a workflow or task', coalesce(quote_literal(left($1, 80)), 'NULL')
            USING ERRCODE = '22023', HINT = '1 to 200 bytes, no control characters, / or #';
    END IF;
    IF btrim($3) = '' OR octet_length($3) > 512 OR $3 ~ '[\x01-\x1f\x7f]' THEN
        RAISE EXCEPTION 'flowgen: % is not the id of a run', quote_literal(left($3, 80))
            USING ERRCODE = '22023', HINT = '1 to 512 bytes, no control characters';
    END IF;
    IF json_typeof($2) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'flowgen: the input of % is not a JSON object', quote_literal($1)
            USING ERRCODE = '22023', HINT = 'give the arguments by parameter name: {"order_id": "o-1"}';
    END IF;
    IF $6 IS NOT NULL AND $7 IS NOT NULL OR $6 < interval '0' OR $8 < interval '0'
        OR greatest($6, $8) > interval '365250 days' OR $7 NOT BETWEEN '0001-01-02' AND '9999-12-30'
        OR $5 IS NULL OR $5 NOT BETWEEN -32768 AND 32767 OR $11 IS NULL OR $11 NOT IN ('workflow', 'task')
        OR $4 IS NULL OR btrim($4) = '' OR octet_length($4) > 200 OR $4 ~ '[\x01-\x1f\x7f/#]' THEN
        RAISE EXCEPTION 'flowgen: the options of % do not fit', quote_literal($1)
            USING ERRCODE = '22023', HINT = 'delay or at, not both; durations from 0 to 1000 years; at of the '
                'years 1 to 9999; priority -32768 to 32767; a queue has a name; kind is workflow or task';
    END IF;
    -- Insert and look are two statements: one alone sees no row when another starter commits meanwhile.
    FOR round IN 1..5 LOOP
        INSERT INTO {schema}.run (
            run_id, created_at, priority, deadline, due_at, status, queue, name, kind, input, id, correlation_id, tags,
            trigger
        ) VALUES (
            made, moment, $5, moment + $8, CASE WHEN wake > moment THEN least(wake, moment + $8) ELSE moment END,
            CASE WHEN wake > moment THEN 1 ELSE 0 END, $4, $1, $11, stored::json, $3, $10, $9, '{"kind":"sql"}'
        ) ON CONFLICT (run_id) DO NOTHING;
        IF FOUND THEN
            RETURN coalesce($3, made::text);
        END IF;
        SELECT r.name, coalesce(r.first_input, r.input)::text, r.first_input IS NOT NULL
        INTO found_name, found_input, went_on FROM {schema}.run r WHERE r.run_id = made;
        IF FOUND THEN
            same := found_name = $1 AND found_input = stored;
            IF NOT same AND found_name = $1 THEN
                BEGIN
                    same := found_input::jsonb = stored::jsonb;
                EXCEPTION WHEN data_exception OR program_limit_exceeded THEN
                    same := false;  -- what jsonb cannot hold differs by its text
                END;
            END IF;
            IF same THEN
                RETURN $3;
            END IF;
            RAISE EXCEPTION 'flowgen: the run % exists: it is % with the input %, not % with %',
                quote_literal($3), found_name,
                left(found_input, 200) || CASE WHEN went_on THEN ' of its first pass' ELSE '' END, $1, left(stored, 200)
                USING ERRCODE = '23505';
        END IF;
    END LOOP;
    RAISE EXCEPTION 'flowgen: the run % was deleted as often as it was started', quote_literal($3) USING ERRCODE = '40001';
END
$function$;

-- Those of the runs asked for that have ended (7 and above), or do not exist (NULL). The plan that a connection keeps
-- must be the index's also when it was made on an empty table.
CREATE FUNCTION {schema}.ended(asked uuid[]) RETURNS TABLE (run_id uuid, status smallint, output text, error text)
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $function$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    SELECT a.run_id, r.status, r.output::text, r.error::text
    FROM unnest(asked) AS a (run_id)
    LEFT JOIN {schema}.run r ON r.run_id = a.run_id
    WHERE r.run_id IS NULL OR r.status >= 7;
END
$function$;
