"""What the harness reads of the database, and adds to it: a ledger for effects, an audit of what may not change."""

from __future__ import annotations

import json
from typing import Any

import psycopg

from tests.chaos.evidence import Change, EntryRow, RunRow, ScheduleRow

SETUP = """
CREATE SCHEMA IF NOT EXISTS chaos;
CREATE TABLE chaos.ledger (run text, key text, segment integer, n integer NOT NULL DEFAULT 1,
    PRIMARY KEY (run, key, segment));
CREATE TABLE chaos.change (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz DEFAULT clock_timestamp(),
    what text NOT NULL, run_id uuid NOT NULL, before integer, after integer);
CREATE FUNCTION chaos.note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'entry' THEN
        INSERT INTO chaos.change (what, run_id, before) VALUES ('entry ' || lower(TG_OP), OLD.run_id, OLD.index);
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO chaos.change (what, run_id, before) VALUES ('run delete', OLD.run_id, OLD.status);
    ELSE
        INSERT INTO chaos.change (what, run_id, before, after)
        VALUES ('run status', OLD.run_id, OLD.status, NEW.status);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_note AFTER UPDATE OR DELETE ON flowgen.entry FOR EACH ROW EXECUTE FUNCTION chaos.note();
CREATE TRIGGER chaos_note_end AFTER UPDATE ON flowgen.run FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status AND (OLD.status >= 7 OR NEW.status >= 7))
    EXECUTE FUNCTION chaos.note();
CREATE TRIGGER chaos_note_delete AFTER DELETE ON flowgen.run FOR EACH ROW EXECUTE FUNCTION chaos.note();
"""


class Store:
    """One connection for the harness; opened anew when the server was killed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._conn: psycopg.Connection[Any] | None = None

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Raises psycopg.Error. A connection of before a kill is replaced, once."""
        for again in (True, False):
            if self._conn is None or self._conn.closed:
                again = False
                self._conn = psycopg.connect(self._url, autocommit=True, connect_timeout=5)
            try:
                cursor = self._conn.execute(query)
                return cursor.fetchall() if cursor.description else []
            except psycopg.Error:
                self._conn.close()
                if not again:
                    raise
        raise AssertionError("the second try gives rows or raises")

    def close(self) -> None:
        if self._conn is not None:
            self._conn.close()

    def set_up(self) -> None:
        assert self._conn is None or not self._conn.closed
        self.rows("SELECT 1")
        assert self._conn is not None
        self._conn.execute(SETUP)

    def statuses(self) -> dict[int, int]:
        return dict(self.rows("SELECT status::integer, count(*) FROM flowgen.run GROUP BY 1"))

    def progress(self) -> int:
        """Grows whenever anything is recorded."""
        return int(
            self.rows("SELECT (SELECT count(*) FROM flowgen.entry) + (SELECT sum(claim) FROM flowgen.run)")[0][0]
        )

    def runs(self) -> list[RunRow]:
        names: tuple[str, ...] = (
            "run",
            "id",
            "name",
            "status",
            "text",
            "output",
            "error",
            "parent",
            "recoveries",
            "trigger",
        )
        names += ("base", "prologue", "attempt", "claim")
        found = self.rows(
            "SELECT run_id::text, id, name, status::integer, input::text, output::text, error::text, parent_id::text,"
            " recoveries::integer, trigger::text, base, prologue, attempt, claim FROM flowgen.run"
        )
        rows = [dict(zip(names, row, strict=True)) for row in found]
        for row in rows:
            row["input"] = json.loads(row["text"])
            row |= {name: _json(row[name]) for name in ("output", "error", "trigger")}
        return [RunRow(**row) for row in rows]

    def entries(self) -> list[EntryRow]:
        found = self.rows(
            "SELECT run_id::text, index, kind::integer, key, status::integer, attempt, value, named"
            " FROM flowgen.entry ORDER BY run_id, index"
        )
        return [EntryRow(*row) for row in found]

    def ledger(self) -> dict[tuple[str, str, int], int]:
        return {(run, key, segment): n for run, key, segment, n in self.rows("SELECT * FROM chaos.ledger")}

    def changes(self) -> list[Change]:
        return [
            Change(*row) for row in self.rows("SELECT what, run_id::text, before, after FROM chaos.change ORDER BY id")
        ]

    def schedules(self) -> list[ScheduleRow]:
        return [ScheduleRow(*row) for row in self.rows("SELECT target, name, origin FROM flowgen.schedule")]

    def waiting(self) -> str:
        """What has not ended, for the message of a drain that did not come to its end."""
        found = self.rows(
            "SELECT r.run_id::text, r.name, r.status, r.owner::text, r.claim, r.mail, r.seen, r.wake_at_mail, r.due_at,"
            " r.recoveries, r.request, clock_timestamp(), w.dead, w.quiet, w.lease_until, w.pid"
            " FROM flowgen.run r LEFT JOIN flowgen.worker w ON w.worker_id = r.owner WHERE r.status < 7 LIMIT 30"
        )
        return "\n".join(str(row) for row in found)


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)
