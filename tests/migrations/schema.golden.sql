TABLE audit
    id bigint NOT NULL IDENTITY
    at timestamp with time zone NOT NULL
    run_id uuid
    action text NOT NULL
    subject text
    who text
    reason text
    details json

TABLE entry
    run_id uuid NOT NULL
    recorded_at timestamp with time zone NOT NULL
    due_at timestamp with time zone
    index integer NOT NULL
    attempt integer
    kind smallint NOT NULL
    status smallint
    named boolean NOT NULL DEFAULT false
    key text NOT NULL
    fingerprint text
    value text

TABLE event
    number bigint NOT NULL IDENTITY
    event_id uuid NOT NULL
    emitted_at timestamp with time zone NOT NULL
    known_at timestamp with time zone
    name text NOT NULL
    payload text NOT NULL
    correlation_id text

TABLE event_trigger
    target text NOT NULL
    number integer NOT NULL
    event text NOT NULL
    filter jsonb
    fields text[]
    queue text NOT NULL
    priority integer NOT NULL
    kind text NOT NULL
    deadline interval

TABLE event_wait
    run_id uuid NOT NULL
    after timestamp with time zone
    since timestamp with time zone NOT NULL
    found timestamp with time zone
    probe bigint NOT NULL
    fresh boolean NOT NULL
    key text NOT NULL
    name text NOT NULL
    fingerprint text NOT NULL
    shape text NOT NULL
    filter jsonb

TABLE former
    id bigint NOT NULL IDENTITY
    run_id uuid NOT NULL

TABLE inbox
    run_id uuid NOT NULL
    id bigint NOT NULL IDENTITY
    created_at timestamp with time zone NOT NULL
    kind smallint NOT NULL
    key text NOT NULL
    payload text NOT NULL

TABLE migration
    version integer NOT NULL
    name text NOT NULL
    applied_at timestamp with time zone NOT NULL DEFAULT statement_timestamp()

TABLE queue
    name text NOT NULL
    paused boolean NOT NULL DEFAULT false
    changed_at timestamp with time zone NOT NULL

TABLE run
    run_id uuid NOT NULL
    created_at timestamp with time zone NOT NULL
    parent_id uuid
    root_id uuid
    priority integer NOT NULL DEFAULT 0
    depth smallint NOT NULL DEFAULT 0
    recoveries smallint NOT NULL DEFAULT 0
    deadline timestamp with time zone
    due_at timestamp with time zone
    mail integer NOT NULL DEFAULT 0
    seen integer NOT NULL DEFAULT 0
    wake_at_mail integer
    attempt integer NOT NULL DEFAULT 1
    recovered_index integer
    stalls smallint
    floor integer
    continued_at timestamp with time zone
    base integer
    prologue integer
    request smallint
    cascade boolean
    started_at timestamp with time zone
    finished_at timestamp with time zone
    owner uuid
    claim integer NOT NULL DEFAULT 0
    status smallint NOT NULL
    output json
    error json
    progress json
    progress_at timestamp with time zone
    reports json
    reason text
    lost_with uuid[]
    detached boolean NOT NULL DEFAULT false
    queue text NOT NULL
    name text NOT NULL
    kind text NOT NULL
    input json NOT NULL
    first_input json
    id text
    parent_key text
    correlation_id text
    parent_correlation_id text
    tags text[]
    trigger json

TABLE schedule
    schedule_id uuid NOT NULL
    next_at timestamp with time zone NOT NULL
    last_at timestamp with time zone
    last_run_id uuid
    priority integer NOT NULL DEFAULT 0
    paused boolean NOT NULL DEFAULT false
    target text NOT NULL
    name text NOT NULL
    cron text NOT NULL
    timezone text NOT NULL
    queue text NOT NULL
    kind text NOT NULL
    origin text NOT NULL
    overlap text NOT NULL
    input json NOT NULL

TABLE secret
    name text NOT NULL
    value bytea NOT NULL
    made_at timestamp with time zone NOT NULL

TABLE time_window
    name text NOT NULL
    number integer NOT NULL
    opens time without time zone NOT NULL
    closes time without time zone NOT NULL
    timezone text NOT NULL

TABLE unwanted
    id bigint NOT NULL IDENTITY
    run_id uuid NOT NULL

TABLE waiter
    run_id uuid NOT NULL
    waiting_id uuid NOT NULL
    key text NOT NULL

TABLE worker
    worker_id uuid NOT NULL
    lease_until timestamp with time zone NOT NULL
    started_at timestamp with time zone NOT NULL
    system_identifier bigint NOT NULL
    epoch integer NOT NULL DEFAULT 1
    pid integer NOT NULL
    dead boolean NOT NULL DEFAULT false
    quiet boolean NOT NULL DEFAULT false
    released boolean NOT NULL DEFAULT false
    idle boolean NOT NULL DEFAULT false
    timeline text NOT NULL
    host text NOT NULL
    versions json NOT NULL
    queues text[]
    names text[] NOT NULL
    excuse text
    charged uuid[]

OPTIONS run: fillfactor=45, autovacuum_vacuum_scale_factor=0.02, autovacuum_vacuum_cost_delay=0
OPTIONS worker: fillfactor=50
CONSTRAINT audit_pkey ON audit: PRIMARY KEY (id)
CONSTRAINT entry_pkey ON entry: PRIMARY KEY (run_id, index)
CONSTRAINT event_pkey ON event: PRIMARY KEY (event_id)
CONSTRAINT event_trigger_pkey ON event_trigger: PRIMARY KEY (target, number)
CONSTRAINT event_wait_pkey ON event_wait: PRIMARY KEY (run_id, key)
CONSTRAINT former_pkey ON former: PRIMARY KEY (id)
CONSTRAINT inbox_pkey ON inbox: PRIMARY KEY (run_id, id)
CONSTRAINT migration_pkey ON migration: PRIMARY KEY (version)
CONSTRAINT queue_pkey ON queue: PRIMARY KEY (name)
CONSTRAINT run_pkey ON run: PRIMARY KEY (run_id)
CONSTRAINT run_status ON run: CHECK ((((status >= 0) AND (status <= 9)) AND ((status = 3) = (owner IS NOT NULL)) AND ((status >= 7) = (finished_at IS NOT NULL)) AND ((status <> 1) OR (due_at IS NOT NULL))))
CONSTRAINT schedule_name ON schedule: UNIQUE (target, name)
CONSTRAINT schedule_origin ON schedule: CHECK ((origin = ANY (ARRAY['code'::text, 'dynamic'::text])))
CONSTRAINT schedule_overlap ON schedule: CHECK ((overlap = ANY (ARRAY['allow'::text, 'skip'::text, 'queue'::text, 'cancel_previous'::text])))
CONSTRAINT schedule_pkey ON schedule: PRIMARY KEY (schedule_id)
CONSTRAINT secret_pkey ON secret: PRIMARY KEY (name)
CONSTRAINT time_window_pkey ON time_window: PRIMARY KEY (name, number)
CONSTRAINT time_window_zone ON time_window: CHECK ((('2000-01-01 00:00:00+00'::timestamp with time zone AT TIME ZONE timezone) IS NOT NULL))
CONSTRAINT unwanted_pkey ON unwanted: PRIMARY KEY (id)
CONSTRAINT waiter_pkey ON waiter: PRIMARY KEY (run_id, waiting_id, key)
CONSTRAINT worker_excuse ON worker: CHECK ((excuse = ANY (ARRAY['left'::text, 'outage'::text, 'stall'::text])))
CONSTRAINT worker_pkey ON worker: PRIMARY KEY (worker_id)
CREATE UNIQUE INDEX audit_pkey ON audit USING btree (id)
CREATE INDEX audit_run ON audit USING btree (run_id) WHERE (run_id IS NOT NULL)
CREATE UNIQUE INDEX entry_pkey ON entry USING btree (run_id, index)
CREATE INDEX event_age ON event USING btree (known_at) WHERE (known_at IS NOT NULL)
CREATE INDEX event_known ON event USING btree (name, known_at) WHERE (known_at IS NOT NULL)
CREATE INDEX event_new ON event USING btree (number) WHERE (known_at IS NULL)
CREATE UNIQUE INDEX event_pkey ON event USING btree (event_id)
CREATE INDEX event_trigger_event ON event_trigger USING btree (event)
CREATE UNIQUE INDEX event_trigger_pkey ON event_trigger USING btree (target, number)
CREATE INDEX event_wait_fresh ON event_wait USING btree (run_id, key) WHERE fresh
CREATE INDEX event_wait_name ON event_wait USING btree (name, shape, probe)
CREATE UNIQUE INDEX event_wait_pkey ON event_wait USING btree (run_id, key)
CREATE UNIQUE INDEX former_pkey ON former USING btree (id)
CREATE UNIQUE INDEX inbox_pkey ON inbox USING btree (run_id, id)
CREATE UNIQUE INDEX migration_pkey ON migration USING btree (version)
CREATE UNIQUE INDEX queue_pkey ON queue USING btree (name)
CREATE INDEX run_cascade ON run USING btree (run_id) WHERE cascade
CREATE INDEX run_children ON run USING btree (parent_id) WHERE (parent_id IS NOT NULL)
CREATE INDEX run_future ON run USING btree (due_at) WHERE ((due_at IS NOT NULL) AND (status = ANY (ARRAY[1, 4])))
CREATE INDEX run_held ON run USING btree (queue, name) WHERE (status = 2)
CREATE INDEX run_news ON run USING btree (owner) WHERE ((owner IS NOT NULL) AND ((request IS NOT NULL) OR (mail > seen)))
CREATE INDEX run_owned ON run USING btree (owner) WHERE (status = 3)
CREATE UNIQUE INDEX run_pkey ON run USING btree (run_id)
CREATE INDEX run_ready ON run USING btree (queue, priority DESC, due_at) WHERE ((status = 0) AND (recoveries < 2))
CREATE INDEX run_suspect ON run USING btree (queue) WHERE ((status = 0) AND (recoveries >= 2))
CREATE INDEX schedule_due ON schedule USING btree (next_at) WHERE (NOT paused)
CREATE UNIQUE INDEX schedule_name ON schedule USING btree (target, name)
CREATE UNIQUE INDEX schedule_pkey ON schedule USING btree (schedule_id)
CREATE UNIQUE INDEX secret_pkey ON secret USING btree (name)
CREATE UNIQUE INDEX time_window_pkey ON time_window USING btree (name, number)
CREATE UNIQUE INDEX unwanted_pkey ON unwanted USING btree (id)
CREATE UNIQUE INDEX waiter_pkey ON waiter USING btree (run_id, waiting_id, key)
CREATE UNIQUE INDEX worker_pkey ON worker USING btree (worker_id)

FUNCTION attach_child(p_session uuid, p_epoch integer, p_claim integer, e_run uuid[], e_index integer[], e_facts integer[], e_key text[], e_fingerprint text[], e_attempt integer[], e_value text[], e_due timestamp with time zone[], e_delay interval[], k_run uuid, k_id text, k_kind text, k_name text, k_queue text, k_priority integer, k_input text, k_at timestamp with time zone, k_delay interval, k_deadline interval, k_tags text[], k_correlation text, k_parent_correlation text, k_parent uuid, k_parent_key text, k_root uuid, k_depth integer, k_detached boolean, k_trigger text, p_wait boolean)
    RETURNS TABLE(what text, at timestamp with time zone, name text, input text, went_on boolean, due_run uuid[], due_index integer[], due timestamp with time zone[])
    v search_path=pg_catalog, pg_temp

FUNCTION cancel_children(p_limit integer)
    RETURNS integer
    v search_path=pg_catalog, pg_temp, plan_cache_mode=force_generic_plan, enable_seqscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off

FUNCTION cancel_some(p_runs uuid[], p_reason text)
    RETURNS integer
    v search_path=pg_catalog, pg_temp, plan_cache_mode=force_generic_plan, enable_seqscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off

FUNCTION cancel_unwanted(p_limit integer, p_reason text)
    RETURNS integer
    v search_path=pg_catalog, pg_temp, plan_cache_mode=force_generic_plan, enable_seqscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off

FUNCTION care()
    RETURNS TABLE(at timestamp with time zone, lost boolean, ready boolean, suspect boolean, held boolean, cascades boolean, former boolean, events boolean, closed text[], next_due_at timestamp with time zone, next_tick_at timestamp with time zone)
    s search_path=pg_catalog, pg_temp, plan_cache_mode=force_generic_plan, enable_seqscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off

FUNCTION carry_out(p_effects json, p_refused uuid[])
    RETURNS void
    v search_path=pg_catalog, pg_temp, plan_cache_mode=force_generic_plan, enable_seqscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off

FUNCTION change_schedules(p_schedules text, p_refused uuid[])
    RETURNS void
    v search_path=pg_catalog, pg_temp

FUNCTION claim(p_session uuid, p_epoch integer, p_queues text[], p_limit integer, p_suspect boolean, p_bare boolean, p_have jsonb, p_run_bytes bigint, p_batch_bytes bigint, p_since timestamp with time zone)
    RETURNS TABLE(fenced boolean, busy boolean, at timestamp with time zone, next_due_at timestamp with time zone, suspects integer, since timestamp with time zone, run_id uuid, id text, name text, kind text, queue text, priority integer, claim integer, attempt integer, recoveries integer, input text, correlation_id text, parent_correlation_id text, parent_id uuid, parent_key text, root_id uuid, depth integer, trigger text, deadline timestamp with time zone, created_at timestamp with time zone, mail integer, request integer, reason text, base integer, prologue integer, next_index integer, partial boolean, history text, inbox text, floor integer)
    v search_path=pg_catalog, pg_temp, plan_cache_mode=force_generic_plan, lock_timeout=500ms, enable_seqscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off

FUNCTION clock()
    RETURNS timestamp with time zone
    s

FUNCTION closed_names()
    RETURNS text[]
    s search_path=pg_catalog, pg_temp

FUNCTION declare_triggers(p_targets text[], p_triggers json)
    RETURNS void
    v search_path=pg_catalog, pg_temp

FUNCTION declare_windows(p_names text[], p_windows json)
    RETURNS void
    v search_path=pg_catalog, pg_temp

FUNCTION deliver(m_run uuid[], m_kind integer[], m_key text[], m_payload text[], p_wait boolean)
    RETURNS TABLE(run_id uuid, status integer, told boolean)
    v search_path=pg_catalog, pg_temp, plan_cache_mode=force_generic_plan, enable_seqscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off

FUNCTION emit(name text, payload json, correlation_id text)
    RETURNS text
    v search_path=pg_catalog, pg_temp

FUNCTION emit_events(p_events json, p_refused uuid[])
    RETURNS void
    v search_path=pg_catalog, pg_temp, plan_cache_mode=force_generic_plan, enable_seqscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off

FUNCTION ended(asked uuid[])
    RETURNS TABLE(run_id uuid, status smallint, output text, error text)
    s search_path=pg_catalog, pg_temp, plan_cache_mode=force_generic_plan, enable_seqscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off

FUNCTION event_body(payload text)
    RETURNS jsonb
    i search_path=pg_catalog, pg_temp

FUNCTION event_concerns(body jsonb, fields text[])
    RETURNS boolean
    i search_path=pg_catalog, pg_temp

FUNCTION event_matches(body jsonb, filter jsonb)
    RETURNS boolean
    i search_path=pg_catalog, pg_temp

FUNCTION event_order(one jsonb, other jsonb)
    RETURNS numeric
    i search_path=pg_catalog, pg_temp

FUNCTION event_probe(body jsonb, shape text)
    RETURNS bigint
    i search_path=pg_catalog, pg_temp

FUNCTION event_run_id(event_id uuid, target text)
    RETURNS uuid
    i search_path=pg_catalog, pg_temp

FUNCTION excuse(p_lost uuid, p_excuse text)
    RETURNS integer
    v search_path=pg_catalog, pg_temp, plan_cache_mode=force_generic_plan, enable_seqscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off

FUNCTION finish_transaction(p_session uuid, p_epoch integer, p_token text, e_run uuid[], e_index integer[], e_facts integer[], e_key text[], e_fingerprint text[], e_attempt integer[], e_value text[], e_due timestamp with time zone[], e_delay interval[])
    RETURNS timestamp with time zone
    v search_path=pg_catalog, pg_temp

FUNCTION flush(p_session uuid, p_epoch integer, e_run uuid[], e_index integer[], e_facts integer[], e_key text[], e_fingerprint text[], e_attempt integer[], e_value text[], e_due timestamp with time zone[], e_delay interval[], c_run uuid[], c_id bigint[], r_run uuid[], r_action integer[], r_claim integer[], r_due timestamp with time zone[], r_delay interval[], r_mail_read integer[], r_wake integer[], r_base integer[], r_prologue integer[], r_output text[], r_error text[], r_input text[], r_progress text[], r_reports text[], r_lasts interval[], r_parent uuid[], r_parent_key text[], r_letters integer[], r_closed integer[], k_run uuid[], k_id text[], k_facts integer[], k_name text[], k_queue text[], k_priority integer[], k_input text[], k_at timestamp with time zone[], k_delay interval[], k_deadline interval[], k_tags text[], k_correlation text[], k_parent_correlation text[], k_parent uuid[], k_parent_key text[], k_root uuid[], k_depth integer[], k_trigger text[], p_schedules text, p_eager boolean, p_effects text)
    RETURNS TABLE(fenced boolean, at timestamp with time zone, due_run uuid[], due_index integer[], due timestamp with time zone[], skipped uuid[], landed uuid[], landed_status integer[], adopted uuid[])
    v search_path=pg_catalog, pg_temp, plan_cache_mode=force_generic_plan, enable_seqscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off

FUNCTION flush_entries(p_session uuid, p_epoch integer, e_run uuid[], e_index integer[], e_facts integer[], e_key text[], e_fingerprint text[], e_attempt integer[], e_value text[], e_due timestamp with time zone[], e_delay interval[], c_run uuid[], c_id bigint[])
    RETURNS TABLE(fenced boolean, at timestamp with time zone, due_run uuid[], due_index integer[], due timestamp with time zone[])
    v search_path=pg_catalog, pg_temp, plan_cache_mode=force_generic_plan, enable_seqscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off

FUNCTION forget_passes(p_runs uuid[], p_limit integer)
    RETURNS void
    v search_path=pg_catalog, pg_temp, plan_cache_mode=force_generic_plan, enable_seqscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off

FUNCTION forget_segments(p_runs uuid[], p_closed integer[], p_base integer[], p_landed uuid[], p_limit integer)
    RETURNS void
    v search_path=pg_catalog, pg_temp, plan_cache_mode=force_generic_plan, enable_seqscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off

FUNCTION hold(p_limit integer)
    RETURNS integer
    v search_path=pg_catalog, pg_temp, plan_cache_mode=force_generic_plan, enable_seqscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off

FUNCTION is_open(p_opens time without time zone, p_closes time without time zone, p_timezone text)
    RETURNS boolean
    s search_path=pg_catalog, pg_temp

FUNCTION is_served(p_name text, p_queue text)
    RETURNS boolean
    s search_path=pg_catalog, pg_temp, jit=off

FUNCTION new_run_id()
    RETURNS uuid
    v search_path=pg_catalog, pg_temp

FUNCTION news(p_session uuid, p_runs uuid[], p_read bigint[])
    RETURNS TABLE(run_id uuid, request integer, reason text, mail integer, deadline timestamp with time zone, inbox text)
    s search_path=pg_catalog, pg_temp, plan_cache_mode=force_generic_plan, enable_seqscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off

FUNCTION post(p_to uuid[], p_kind integer, p_key text, p_payload text)
    RETURNS TABLE(run_id uuid, name text, status integer, told boolean)
    v search_path=pg_catalog, pg_temp, plan_cache_mode=force_generic_plan, enable_seqscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off

FUNCTION promote(p_limit integer)
    RETURNS TABLE(at timestamp with time zone, promoted integer, next_due_at timestamp with time zone)
    v search_path=pg_catalog, pg_temp, plan_cache_mode=force_generic_plan, enable_seqscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off

FUNCTION put_back(p_limit integer)
    RETURNS integer
    v search_path=pg_catalog, pg_temp, plan_cache_mode=force_generic_plan, enable_seqscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off

FUNCTION release_lost(p_limit integer)
    RETURNS integer
    v search_path=pg_catalog, pg_temp, plan_cache_mode=force_generic_plan, enable_seqscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off

FUNCTION release_runs(p_session uuid, p_epoch integer, p_runs uuid[])
    RETURNS integer
    v search_path=pg_catalog, pg_temp, plan_cache_mode=force_generic_plan, enable_seqscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off

FUNCTION run_id_for(id text)
    RETURNS uuid
    i search_path=pg_catalog, pg_temp

FUNCTION send_signal(p_session uuid, p_epoch integer, p_claim integer, e_run uuid[], e_index integer[], e_facts integer[], e_key text[], e_fingerprint text[], e_attempt integer[], e_value text[], e_due timestamp with time zone[], e_delay interval[], p_sender uuid, p_to uuid[], p_name text, p_payload text)
    RETURNS TABLE(what text, at timestamp with time zone, name text, status integer)
    v search_path=pg_catalog, pg_temp, plan_cache_mode=force_generic_plan, enable_seqscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off

FUNCTION signal(id text, name text, payload json)
    RETURNS void
    v search_path=pg_catalog, pg_temp

FUNCTION start(name text, input json, id text, queue text, priority integer, delay interval, at timestamp with time zone, deadline interval, tags text[], correlation_id text, kind text)
    RETURNS text
    v search_path=pg_catalog, pg_temp

FUNCTION sweep_events(p_keep interval, p_after uuid, p_limit integer)
    RETURNS TABLE(events integer, after uuid)
    v search_path=pg_catalog, pg_temp, plan_cache_mode=force_generic_plan, enable_seqscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off

FUNCTION sweep_former(p_limit integer)
    RETURNS integer
    v search_path=pg_catalog, pg_temp, plan_cache_mode=force_generic_plan, enable_seqscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off

FUNCTION system_identifier()
    RETURNS bigint
    v

FUNCTION tell_events(p_limit integer)
    RETURNS TABLE(busy boolean, waits integer, more boolean)
    v search_path=pg_catalog, pg_temp, plan_cache_mode=force_generic_plan, enable_seqscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off

FUNCTION timeline()
    RETURNS text
    v

FUNCTION token_mac(body bytea)
    RETURNS bytea
    s search_path=pg_catalog, pg_temp

FUNCTION use_token(p_token text, p_payload text)
    RETURNS text
    v search_path=pg_catalog, pg_temp, plan_cache_mode=force_generic_plan, enable_seqscan=off, enable_hashjoin=off, enable_mergejoin=off, jit=off
