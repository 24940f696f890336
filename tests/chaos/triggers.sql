-- What the harness adds to the database: a ledger for effects, and an audit of every change that an invariant asks of.
-- One statement of the engine is one row or a few; `who` is the process, as it says in its connections' options.

CREATE SCHEMA chaos;

CREATE TABLE chaos.ledger (
    run text, key text, segment integer, n integer NOT NULL DEFAULT 1, PRIMARY KEY (run, key, segment)
);

-- The world outside: what it has done once, and what an operator has mended.
CREATE TABLE chaos.outside (run text, key text, PRIMARY KEY (run, key));
CREATE TABLE chaos.mended (n integer PRIMARY KEY);

CREATE FUNCTION chaos.now() RETURNS double precision LANGUAGE sql VOLATILE
AS $$ SELECT extract(epoch FROM clock_timestamp())::double precision $$;

CREATE FUNCTION chaos.who() RETURNS text LANGUAGE sql VOLATILE
AS $$ SELECT coalesce(current_setting('chaos.who', true), '') $$;

CREATE TABLE chaos.change (
    id bigint GENERATED ALWAYS AS IDENTITY, what text NOT NULL, run_id uuid NOT NULL, before integer
);

CREATE TABLE chaos.run (
    id bigint GENERATED ALWAYS AS IDENTITY, at double precision, tx xid8, who text, run_id uuid, before smallint,
    status smallint, owner_before uuid, owner uuid, claim integer, recoveries smallint, due_at timestamptz,
    deadline timestamptz, floor integer
);

CREATE TABLE chaos.write (
    id bigint GENERATED ALWAYS AS IDENTITY, at double precision, tx xid8, who text, runs uuid[], indexes integer[]
);

CREATE TABLE chaos.session (
    id bigint GENERATED ALWAYS AS IDENTITY, at double precision, who text, what text, session uuid
);

CREATE TABLE chaos.tick (
    id bigint GENERATED ALWAYS AS IDENTITY, at double precision, tx xid8, target text, name text, origin text,
    before timestamptz, after timestamptz
);

-- What was forgotten of history, with the segment that a checkpoint closed or with a pass that has ended.
CREATE TABLE chaos.forgotten (LIKE flowgen.entry);

-- Entries: what was inserted, by whom; and that nothing else happens to them while they can be asked for.
CREATE FUNCTION chaos.entry_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.write (at, tx, who, runs, indexes)
    SELECT chaos.now(), pg_current_xact_id(), chaos.who(), array_agg(f.run_id), array_agg(f.index) FROM fresh f
    HAVING count(*) > 0;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_inserted AFTER INSERT ON flowgen.entry REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION chaos.entry_inserted();

CREATE FUNCTION chaos.entry_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND EXISTS (
        SELECT FROM flowgen.run r WHERE r.run_id = OLD.run_id
            AND (OLD.index < r.floor OR NOT OLD.named AND OLD.index >= r.prologue AND OLD.index < r.base)
    ) THEN
        INSERT INTO chaos.forgotten SELECT OLD.*;
        RETURN NULL;
    END IF;
    INSERT INTO chaos.change (what, run_id, before) VALUES ('entry ' || lower(TG_OP), OLD.run_id, OLD.index);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_changed AFTER UPDATE OR DELETE ON flowgen.entry
    FOR EACH ROW EXECUTE FUNCTION chaos.entry_changed();

-- Runs: what they are, whose, and until when they wait.
CREATE FUNCTION chaos.run_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.run (at, tx, who, run_id, status, owner, claim, recoveries, due_at)
    SELECT chaos.now(), pg_current_xact_id(), chaos.who(), f.run_id, f.status, f.owner, f.claim, f.recoveries, f.due_at
    FROM fresh f;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_inserted AFTER INSERT ON flowgen.run REFERENCING NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION chaos.run_inserted();

CREATE FUNCTION chaos.run_changed() RETURNS trigger LANGUAGE plpgsql SET enable_hashjoin = on AS $$
BEGIN
    INSERT INTO chaos.run (at, tx, who, run_id, before, status, owner_before, owner, claim, recoveries, due_at, deadline,
        floor)
    SELECT chaos.now(), pg_current_xact_id(), chaos.who(), f.run_id, o.status, f.status, o.owner, f.owner, f.claim,
        f.recoveries, f.due_at, f.deadline, f.floor
    FROM fresh f JOIN old o ON o.run_id = f.run_id
    WHERE (o.status, o.claim, o.recoveries) <> (f.status, f.claim, f.recoveries)
        OR o.owner IS DISTINCT FROM f.owner OR o.floor IS DISTINCT FROM f.floor OR f.status = 4 AND o.due_at IS DISTINCT FROM f.due_at;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_changed AFTER UPDATE ON flowgen.run REFERENCING OLD TABLE AS old NEW TABLE AS fresh
    FOR EACH STATEMENT EXECUTE FUNCTION chaos.run_changed();

CREATE FUNCTION chaos.run_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.change (what, run_id, before) VALUES ('run delete', OLD.run_id, OLD.status);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_deleted AFTER DELETE ON flowgen.run FOR EACH ROW EXECUTE FUNCTION chaos.run_deleted();

-- Sessions: since when they are, are dead, and have no flush in flight any more. A heartbeat is none of it.
CREATE FUNCTION chaos.session_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO chaos.session (at, who, what, session) VALUES (chaos.now(), chaos.who(), 'born', NEW.worker_id);
        RETURN NULL;
    END IF;
    IF NEW.dead AND NOT OLD.dead THEN
        INSERT INTO chaos.session (at, who, what, session) VALUES (chaos.now(), chaos.who(), 'dead', NEW.worker_id);
    END IF;
    IF NEW.quiet AND NOT OLD.quiet THEN
        INSERT INTO chaos.session (at, who, what, session) VALUES (chaos.now(), chaos.who(), 'quiet', NEW.worker_id);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_born AFTER INSERT ON flowgen.worker FOR EACH ROW EXECUTE FUNCTION chaos.session_changed();
CREATE TRIGGER chaos_changed AFTER UPDATE ON flowgen.worker FOR EACH ROW
    WHEN (NEW.dead IS DISTINCT FROM OLD.dead OR NEW.quiet IS DISTINCT FROM OLD.quiet)
    EXECUTE FUNCTION chaos.session_changed();

-- Schedules: each tick is a move of `next_at`.
CREATE FUNCTION chaos.schedule_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos.tick (at, tx, target, name, origin, before, after) SELECT
        chaos.now(), pg_current_xact_id(), r.target, r.name, r.origin,
        CASE WHEN TG_OP <> 'INSERT' THEN OLD.next_at END, CASE WHEN TG_OP <> 'DELETE' THEN NEW.next_at END
    FROM (SELECT (CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END).*) r;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_born AFTER INSERT OR DELETE ON flowgen.schedule
    FOR EACH ROW EXECUTE FUNCTION chaos.schedule_changed();
CREATE TRIGGER chaos_moved AFTER UPDATE ON flowgen.schedule FOR EACH ROW
    WHEN (NEW.next_at IS DISTINCT FROM OLD.next_at) EXECUTE FUNCTION chaos.schedule_changed();
