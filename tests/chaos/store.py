"""What the harness reads of the database, and adds to it (`triggers.sql`)."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import psycopg

from tests.chaos.evidence import Change, EntryRow, RunChange, RunRow, ScheduleRow, Session, Tick, Write

SETUP = Path(__file__).with_name("triggers.sql")

_RUNS = """
    SELECT run_id::text, id, name, status::integer, input::text, output::text, error::text, parent_id::text,
        recoveries::integer, trigger::text, base, prologue, attempt, claim, parent_key, detached
    FROM flowgen.run
"""
_ENTRIES = """
    SELECT run_id::text, index, kind::integer, key, status::integer, attempt, value, named,
        extract(epoch FROM recorded_at)::double precision, extract(epoch FROM due_at)::double precision
    FROM (SELECT * FROM flowgen.entry UNION ALL SELECT * FROM chaos.forgotten) e ORDER BY run_id, index
"""
_CHANGES = """
    SELECT at, tx::text::bigint, who, run_id::text, before::integer, status::integer, owner_before::text, owner::text,
        claim, recoveries::integer, extract(epoch FROM due_at)::double precision,
        extract(epoch FROM deadline)::double precision, floor
    FROM chaos.run ORDER BY id
"""
_TICKS = """
    SELECT at, tx::text::bigint, target, name, origin, extract(epoch FROM before)::double precision,
        extract(epoch FROM after)::double precision
    FROM chaos.tick ORDER BY id
"""
_LEFT = {
    "runs that are owned": "SELECT count(*) FROM flowgen.run WHERE owner IS NOT NULL",
    "waiting runs with nothing to wake them": "SELECT count(*) FROM flowgen.run r WHERE status = 4 AND due_at IS NULL"
    " AND NOT EXISTS (SELECT FROM flowgen.run c WHERE c.parent_id = r.run_id AND c.status < 7)"
    " AND NOT EXISTS (SELECT FROM flowgen.waiter w WHERE w.waiting_id = r.run_id)",
    "letters to runs that have ended": "SELECT count(*) FROM flowgen.inbox i JOIN flowgen.run r USING (run_id)"
    " WHERE r.status >= 7 AND NOT (r.status = 8 AND i.kind IN (2, 4))",
    "waits for events of runs that have ended": "SELECT count(*) FROM flowgen.event_wait w JOIN flowgen.run r"
    " USING (run_id) WHERE r.status >= 7",
    "events that nobody has looked at": "SELECT count(*) FROM flowgen.event WHERE known_at IS NULL",
    "waiters that have ended": "SELECT count(*) FROM flowgen.waiter w JOIN flowgen.run r ON r.run_id = w.waiting_id"
    " WHERE r.status >= 7",
    "live sessions": "SELECT count(*) FROM flowgen.worker WHERE NOT dead",
    "connections idle in a transaction": "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in tra%'",
    "connections": "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
    " AND pid <> pg_backend_pid()",
    "advisory locks": "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
    "prepared transactions": "SELECT count(*) FROM pg_prepared_xacts",
}


class Store:
    """One connection for the harness; opened anew when the server was killed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._conn: psycopg.Connection[Any] | None = None

    def rows(self, query: str, parameters: tuple[Any, ...] | None = None) -> list[tuple[Any, ...]]:
        """Raises psycopg.Error. A connection of before a kill is replaced, once."""
        for again in (True, False):
            if self._conn is None or self._conn.closed:
                again = False
                self._conn = psycopg.connect(self._url, autocommit=True, connect_timeout=5, application_name="chaos")
            try:
                cursor = self._conn.execute(query, parameters)
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
        self.rows("SELECT 1")
        assert self._conn is not None
        self._conn.execute(SETUP.read_text(encoding="utf-8"))

    def replace(self, function: str, old: str, new: str) -> None:
        """Put another text into a function of the engine, here only. The old one has to be in it."""
        found = self.rows("SELECT pg_get_functiondef(%s::regproc)", (f"flowgen.{function}",))[0][0]
        assert old in found, f"{function} has no {old!r}"
        self.rows(found.replace(old, new))

    # while it goes on

    def unended(self) -> int:
        """Runs that are yet to end; those of the static schedules come for ever."""
        return int(self.rows("SELECT count(*) FROM flowgen.run WHERE status < 7")[0][0])

    def counts(self) -> tuple[int, int]:
        """Runs that have ended, and all."""
        return self.rows("SELECT count(*) FILTER (WHERE status >= 7), count(*) FROM flowgen.run")[0]  # type: ignore[return-value]

    def sessions_alive(self) -> int:
        return int(self.rows("SELECT count(*) FROM flowgen.worker WHERE NOT dead")[0][0])

    def pause_schedules(self) -> None:
        self.rows("UPDATE flowgen.schedule SET paused = true WHERE NOT paused")

    def progress(self) -> int:
        """Grows whenever anything is recorded."""
        return int(
            self.rows("SELECT (SELECT count(*) FROM flowgen.entry) + (SELECT sum(claim) FROM flowgen.run)")[0][0]
        )

    def backends(self) -> list[tuple[int, str]]:
        """Connections of workers: pid and name, the agents' in turn."""
        found = self.rows(
            "SELECT pid, application_name FROM pg_stat_activity WHERE application_name LIKE 'flowgen %'"
            " AND application_name <> 'flowgen client' ORDER BY application_name, pid"
        )
        return [(pid, name) for pid, name in found]

    def terminate(self, pid: int) -> None:
        self.rows("SELECT pg_terminate_backend(%s)", (pid,))

    # at the end

    def shift(self) -> float:
        """What is to be taken from the server's clock to get this machine's monotonic one."""
        best, shift = float("inf"), 0.0
        for _ in range(20):
            begun = time.monotonic()
            at = self.rows("SELECT chaos.now()")[0][0]
            took = time.monotonic() - begun
            if took < best:
                best, shift = took, at - (begun + took / 2)
        return shift

    def runs(self) -> list[RunRow]:
        found = []
        for row in self.rows(_RUNS):
            run, id, name, status, text, output, error, parent, recoveries, trigger, *rest = row
            base, prologue, attempt, claim, parent_key, detached = rest
            found.append(
                RunRow(
                    run,
                    id,
                    name,
                    status,
                    _by_name(json.loads(text)),
                    _json(output),
                    _json(error),
                    parent,
                    recoveries,
                    _json(trigger),
                    base,
                    prologue,
                    attempt,
                    claim,
                    text,
                    parent_key,
                    detached,
                )  # fmt: skip
            )
        return found

    def entries(self, shift: float) -> list[EntryRow]:
        return [EntryRow(*row[:8], row[8] - shift, _less(row[9], shift)) for row in self.rows(_ENTRIES)]

    def ledger(self) -> dict[tuple[str, str, int], int]:
        return {(run, key, segment): n for run, key, segment, n in self.rows("SELECT * FROM chaos.ledger")}

    def changes(self) -> list[Change]:
        return [Change(*row) for row in self.rows("SELECT what, run_id::text, before FROM chaos.change ORDER BY id")]

    def run_changes(self, shift: float) -> list[RunChange]:
        return [_change(row, shift) for row in self.rows(_CHANGES)]

    def writes(self, shift: float) -> list[Write]:
        found = self.rows("SELECT at, tx::text::bigint, who, runs::text[], indexes FROM chaos.write ORDER BY id")
        return [Write(at - shift, tx, who, tuple(runs), tuple(indexes)) for at, tx, who, runs, indexes in found]

    def sessions(self, shift: float) -> dict[str, Session]:
        found: dict[str, Session] = {}
        for at, who, what, session in self.rows("SELECT at, who, what, session::text FROM chaos.session ORDER BY id"):
            if what == "born":
                found[session] = Session(session, who, at - shift)
            elif what == "dead":
                found[session].dead, found[session].dead_by = at - shift, who
            else:
                found[session].quiet = at - shift
        return found

    def ticks(self, shift: float) -> list[Tick]:
        return [Tick(row[0] - shift, *row[1:5], row[5], row[6]) for row in self.rows(_TICKS)]

    def schedules(self) -> list[ScheduleRow]:
        return [ScheduleRow(*row) for row in self.rows("SELECT target, name, origin FROM flowgen.schedule")]

    def left(self) -> dict[str, int]:
        """What is to be nothing once every run has ended and every process has stopped."""
        return {what: int(self.rows(query)[0][0]) for what, query in _LEFT.items()}

    def waiting(self) -> str:
        """What has not ended, for the message of a drain that did not come to its end."""
        found = self.rows(
            "SELECT r.run_id::text, r.name, r.status, r.owner::text, r.claim, r.mail, r.seen, r.wake_at_mail, r.due_at,"
            " r.recoveries, r.request, clock_timestamp(), w.dead, w.quiet, w.lease_until, w.pid"
            " FROM flowgen.run r LEFT JOIN flowgen.worker w ON w.worker_id = r.owner WHERE r.status < 7 LIMIT 30"
        )
        held = self.rows(
            "SELECT a.pid, a.application_name, a.state, a.wait_event_type, a.wait_event, now() - a.xact_start,"
            " left(a.query, 200) FROM pg_stat_activity a WHERE a.backend_type = 'client backend' LIMIT 60"
        )
        locks = self.rows(
            "SELECT pid, locktype, relation::regclass::text, mode, granted FROM pg_locks"
            " WHERE NOT granted OR locktype = 'advisory' LIMIT 60"
        )
        return "\n".join(str(row) for row in [*found, *held, *locks])


def _change(row: tuple[Any, ...], shift: float) -> RunChange:
    return RunChange(row[0] - shift, *row[1:10], _less(row[10], shift), _less(row[11], shift), row[12])


def _by_name(given: Any) -> dict[str, Any]:
    """What a run was given, by the names of parameters; a trigger gives it as arguments and keywords."""
    return given[1] if isinstance(given, list) else given  # type: ignore[no-any-return]


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def _less(at: float | None, shift: float) -> float | None:
    return None if at is None else at - shift
