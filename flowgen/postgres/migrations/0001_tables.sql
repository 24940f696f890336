-- The tables, and how a run goes through them.
--
-- A client inserts a `run` (ready, delayed). A worker, which is one `worker` row a session, claims ready runs: status
-- running, its id as `owner`, `claim` + 1. What the run comes to is recorded in `entry`, insert-only. A run that has to
-- wait is hung up: a row and nothing else, woken by `due_at` or by a message in `inbox`. Its end writes output or error
-- into the same row, and a message into the inbox of whoever waits for it.
--
-- Who may write: a running run only by its owner, under the fence of its worker row; everybody else may set `request`
-- and add to `mail`. A run that is not running by anyone, guarded by columns of its own row. An entry by the owner only.
--
-- Fixed columns stand first and last, and what a claim and an end change stands together, so that an update logs few
-- bytes: it logs what lies between the first and the last byte that differ. A page has room for the claimed form of all
-- of its runs, which is a little larger: a row that moves to another page is logged twice.

-- The one time of every statement. Tests replace it; production inlines it to statement_timestamp().
CREATE FUNCTION {schema}.clock() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
AS $function$ SELECT pg_catalog.statement_timestamp() $function$;

-- What a failover changes, and a restore: a session is valid on the server and timeline of its registration only. Both
-- are expressions, volatile as what they call, so that a statement takes them in instead of calling a function.
CREATE FUNCTION {schema}.timeline() RETURNS text LANGUAGE sql VOLATILE
AS $function$ SELECT pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8) $function$;

CREATE FUNCTION {schema}.system_identifier() RETURNS bigint LANGUAGE sql VOLATILE
AS $function$ SELECT (pg_catalog.pg_control_system()).system_identifier $function$;

CREATE TABLE {schema}.run (
    run_id uuid NOT NULL,
    created_at timestamptz NOT NULL,
    parent_id uuid,
    root_id uuid,                        -- NULL for a root: the run itself
    priority integer NOT NULL DEFAULT 0,
    depth smallint NOT NULL DEFAULT 0,
    recoveries smallint NOT NULL DEFAULT 0,  -- lost leases without a new entry since the last; 2 and more: a suspect
    -- what changes now and then
    deadline timestamptz,
    due_at timestamptz,                  -- ready: since when; delayed and waiting: least(wake, deadline)
    mail integer NOT NULL DEFAULT 0,     -- grows with every message
    seen integer NOT NULL DEFAULT 0,     -- `mail` at the last claim: more is news to the owner
    wake_at_mail integer,                -- how much mail wakes a waiting run; NULL or 0: any
    attempt integer NOT NULL DEFAULT 1,
    recovered_index integer,             -- the highest entry at the last lost lease
    stalls smallint,                     -- lost leases since then that were not counted, as the process was held up
    floor integer,                       -- entries below it are of earlier passes (ContinueAsNew): nobody reads them
    continued_at timestamptz,            -- when the last pass began
    base integer,                        -- index of the checkpoint that opened the segment
    prologue integer,                    -- entries below it are the prologue
    request smallint,                    -- NULL: none; 1 cancel, 2 pause
    cascade boolean,                     -- ended as failed or cancelled with live children: they are to be cancelled
    -- what a claim and an end change
    started_at timestamptz,              -- of the first claim: the run has begun
    finished_at timestamptz,
    owner uuid,                          -- the worker session, while running
    claim integer NOT NULL DEFAULT 0,    -- grows with every claim; a run inserted with a history starts at 1
    status smallint NOT NULL,            -- flowgen.core.states.Status
    output json,
    error json,
    progress json,
    progress_at timestamptz,             -- when `progress` or `reports` was said last
    reports json,                        -- what the functions in flight say of their progress, by step; while running
    reason text,                         -- of the request
    lost_with uuid[],                    -- the sessions whose end is counted in `recoveries`, while there are any
    -- what does not change again
    detached boolean NOT NULL DEFAULT false,
    queue text NOT NULL,
    name text NOT NULL,
    kind text NOT NULL,
    input json NOT NULL,                 -- of the last pass, when it went on as new
    first_input json,                    -- then that of the first pass: what a start with its id is compared with
    id text,                             -- the caller's; run_id is derived from it
    parent_key text,
    correlation_id text,
    parent_correlation_id text,
    tags text[],
    trigger json,
    CONSTRAINT run_pkey PRIMARY KEY (run_id),
    CONSTRAINT run_status CHECK (
        status BETWEEN 0 AND 9
        AND (status = 3) = (owner IS NOT NULL)
        AND (status >= 7) = (finished_at IS NOT NULL)
        AND (status <> 1 OR due_at IS NOT NULL)
    )
) WITH (fillfactor = 45, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- A plan is made before there is anything to estimate, so no two indexes fit the conditions of one statement.
CREATE INDEX run_ready ON {schema}.run (queue, priority DESC, due_at) WHERE status = 0 AND recoveries < 2;
CREATE INDEX run_suspect ON {schema}.run (queue) WHERE status = 0 AND recoveries >= 2;
CREATE INDEX run_future ON {schema}.run (due_at) WHERE due_at IS NOT NULL AND status IN (1, 4);
CREATE INDEX run_held ON {schema}.run (queue, name) WHERE status = 2;
CREATE INDEX run_owned ON {schema}.run (owner) WHERE status = 3;
CREATE INDEX run_news ON {schema}.run (owner) WHERE owner IS NOT NULL AND (request IS NOT NULL OR mail > seen);
CREATE INDEX run_children ON {schema}.run (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX run_cascade ON {schema}.run (run_id) WHERE cascade;

-- The history. No foreign key, no trigger, no update path.
CREATE TABLE {schema}.entry (
    run_id uuid NOT NULL,
    recorded_at timestamptz NOT NULL,
    due_at timestamptz,
    index integer NOT NULL,
    attempt integer,
    kind smallint NOT NULL,              -- flowgen.core.entries.EntryKind
    status smallint,                     -- flowgen.core.entries.OutcomeKind
    named boolean NOT NULL DEFAULT false,
    key text NOT NULL,
    fingerprint text,
    value text,                          -- JSON, exactly as the codec made it
    CONSTRAINT entry_pkey PRIMARY KEY (run_id, index)
);

-- One row per worker session. `dead`: no fence passes any more; `quiet`: no flush of it is in flight any more;
-- `released`: none of its runs is left. `excuse`: its end is not counted against its runs, as its process `left` by
-- itself, or lived through an `outage` of the database, or was held up (`stall`).
CREATE TABLE {schema}.worker (
    worker_id uuid NOT NULL,
    lease_until timestamptz NOT NULL,
    started_at timestamptz NOT NULL,
    system_identifier bigint NOT NULL,
    epoch integer NOT NULL DEFAULT 1,
    pid integer NOT NULL,
    dead boolean NOT NULL DEFAULT false,
    quiet boolean NOT NULL DEFAULT false,
    released boolean NOT NULL DEFAULT false,
    idle boolean NOT NULL DEFAULT false, -- wants a notification
    timeline text NOT NULL,
    host text NOT NULL,
    versions json NOT NULL,
    queues text[],                       -- NULL: every queue
    names text[] NOT NULL,               -- the definitions that it knows
    excuse text,
    charged uuid[],                      -- runs that its end was counted against
    CONSTRAINT worker_pkey PRIMARY KEY (worker_id),
    CONSTRAINT worker_excuse CHECK (excuse IN ('left', 'outage', 'stall'))
) WITH (fillfactor = 50);

-- Messages to runs; deleted by the flush that consumes them and by the end of the run.
CREATE TABLE {schema}.inbox (
    run_id uuid NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    created_at timestamptz NOT NULL,
    kind smallint NOT NULL,              -- flowgen.core.entries.MessageKind
    key text NOT NULL,
    payload text NOT NULL,               -- JSON
    CONSTRAINT inbox_pkey PRIMARY KEY (run_id, id)
);

-- Runs that wait for a run which is not their child: it existed when they started it by its id.
CREATE TABLE {schema}.waiter (
    run_id uuid NOT NULL,
    waiting_id uuid NOT NULL,
    key text NOT NULL,
    CONSTRAINT waiter_pkey PRIMARY KEY (run_id, waiting_id, key)
);

CREATE TABLE {schema}.schedule (
    schedule_id uuid NOT NULL,
    next_at timestamptz NOT NULL,
    last_at timestamptz,
    last_run_id uuid,
    priority integer NOT NULL DEFAULT 0,
    paused boolean NOT NULL DEFAULT false,
    target text NOT NULL,
    name text NOT NULL,
    cron text NOT NULL,
    timezone text NOT NULL,
    queue text NOT NULL,
    kind text NOT NULL,
    origin text NOT NULL,
    overlap text NOT NULL,
    input json NOT NULL,
    CONSTRAINT schedule_pkey PRIMARY KEY (schedule_id),
    CONSTRAINT schedule_name UNIQUE (target, name),
    CONSTRAINT schedule_origin CHECK (origin IN ('code', 'dynamic')),
    CONSTRAINT schedule_overlap CHECK (overlap IN ('allow', 'skip', 'queue', 'cancel_previous'))
);

CREATE INDEX schedule_due ON {schema}.schedule (next_at) WHERE NOT paused;

-- Facts about queues that differ from the default; a queue without a row is not paused.
CREATE TABLE {schema}.queue (
    name text NOT NULL,
    paused boolean NOT NULL DEFAULT false,
    changed_at timestamptz NOT NULL,
    CONSTRAINT queue_pkey PRIMARY KEY (name)
);

-- When runs of a definition are worked at, by the wall clock of a zone; one that closes before it opens is overnight. A
-- name without a row: at any time. Kept by the workers that know it.
CREATE TABLE {schema}.time_window (
    name text NOT NULL,
    number integer NOT NULL,
    opens time NOT NULL,
    closes time NOT NULL,
    timezone text NOT NULL,
    CONSTRAINT time_window_pkey PRIMARY KEY (name, number),
    CONSTRAINT time_window_zone CHECK (timestamptz '2000-01-01 00:00+00' AT TIME ZONE timezone IS NOT NULL)
);

-- Who did what to a run, a queue or a schedule, and why.
CREATE TABLE {schema}.audit (
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL,
    run_id uuid,
    action text NOT NULL,
    subject text,
    who text,
    reason text,
    details json,
    CONSTRAINT audit_pkey PRIMARY KEY (id)
);

CREATE INDEX audit_run ON {schema}.audit (run_id) WHERE run_id IS NOT NULL;
