"""The PostgreSQL server of a run of the harness: its own, killed and started again, one backend or all of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import psycopg

from flowgen.postgres import embedded
from flowgen.postgres.migrate import migrate_url
from tests.chaos.evidence import Span


class Server:
    """Owns the server in `folder`; it ends, and its data goes, with `end`."""

    SECRET = "chaos-secret-0451"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.log = folder.parent / "server.log"
        self.spans: list[Span] = []
        """When it was away: from the kill until somebody could connect."""
        self._returning: threading.Thread | None = None
        self.url = embedded.ensure(folder, idle=0)
        migrate_url(self.url, "flowgen")

    @property
    def workers_url(self) -> str:
        """With a password that nothing may ever say. The server asks for none."""
        return self.url.replace("postgres@", f"postgres:{self.SECRET}@", 1)

    @property
    def version(self) -> str:
        return embedded.binaries().parent.name.removeprefix("pginstall")

    def kill(self, down: float) -> float:
        """kill -9 of the postmaster; it is started again after `down` seconds. When that was."""
        self.await_back()
        pid = embedded.status(self._folder).pid
        t = time.monotonic()
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

        def restart() -> None:
            threading.Event().wait(down)
            embedded.ensure(self._folder, idle=0)
            self._back(t)

        self._returning = threading.Thread(target=restart)
        self._returning.start()
        return t

    def kill_backend(self, pid: int) -> float:
        """kill -9 of one backend: the server ends all others and recovers by itself. When that was."""
        self.await_back()
        t = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        self._returning = threading.Thread(target=self._back, args=(t,))
        self._returning.start()
        return t

    def _back(self, since: float) -> None:
        pause = threading.Event()
        pause.wait(0.02)
        while time.monotonic() < since + 60:
            with contextlib.suppress(psycopg.Error):
                with psycopg.connect(self.url, autocommit=True, connect_timeout=5, application_name="chaos") as conn:
                    conn.execute("SELECT 1 FROM flowgen.worker LIMIT 1")
                break
            pause.wait(0.02)
        self.spans.append(Span("server", since, time.monotonic()))

    def await_back(self) -> None:
        """Until a kill of before is over."""
        if self._returning is not None:
            self._returning.join()
            self._returning = None

    def storage(self) -> dict[str, int | str]:
        """What can be found wrong with the data: by SQL while it runs, by its checksums once it is stopped."""
        found: dict[str, int | str] = {}
        with psycopg.connect(self.url, autocommit=True, application_name="chaos") as conn:
            for what, query in _STORAGE.items():
                row = conn.execute(query).fetchone()
                found[what] = int(row[0]) if row else 0
            for index, table, key in conn.execute(_INDEXES).fetchall():
                for way, settings in (("index", "enable_seqscan"), ("table", "enable_indexscan")):
                    conn.execute("BEGIN")
                    conn.execute(f"SET LOCAL {settings} = off")
                    if way == "table":
                        conn.execute("SET LOCAL enable_indexonlyscan = off; SET LOCAL enable_bitmapscan = off")
                    row = conn.execute(f"SELECT count(*), sum(hashtext(k::text)::bigint) FROM (SELECT {key} AS k FROM {table} ORDER BY 1) s").fetchone()  # fmt: skip # noqa: E501
                    conn.execute("COMMIT")
                    found[f"{index} by {way}"] = f"{row}"
                by_index, by_table = found.pop(f"{index} by index"), found.pop(f"{index} by table")
                found[f"{index} and its table differ"] = int(by_index != by_table)
            amcheck = conn.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'amcheck'").fetchone()
            if amcheck is None:
                found["pg_amcheck"] = "left out: this server has no extension amcheck"
            else:
                conn.execute("CREATE EXTENSION IF NOT EXISTS amcheck")
        if amcheck is not None:
            command = [str(embedded.binaries() / "pg_amcheck"), "--heapallindexed", "-d", self.url]
            said = subprocess.run(command, capture_output=True, text=True)
            found["pg_amcheck"] = 0 if said.returncode == 0 else 1
        return found

    def checksums(self) -> int | str:
        """Stop the server and read every page of it; blocks that are not what was written."""
        data = embedded.status(self._folder).data
        embedded.stop(self._folder, "fast")
        command = [str(embedded.binaries() / "pg_checksums"), "--check", "-D", str(data)]
        said = subprocess.run(command, capture_output=True, text=True)
        if "not enabled" in said.stderr:
            return "left out: the server has no checksums"
        return 0 if said.returncode == 0 else f"{said.stdout}{said.stderr}"[-500:]

    def end(self) -> None:
        self.await_back()
        with contextlib.suppress(Exception):
            embedded.stop(self._folder, "immediate")
            self.log.write_text(embedded.server_log(self._folder, limit=1 << 24), encoding="utf-8")
        embedded.reset(self._folder)


_STORAGE = {
    "invalid indexes": "SELECT count(*) FROM pg_index WHERE NOT indisvalid OR NOT indisready",
    "constraints that are not validated": "SELECT count(*) FROM pg_constraint WHERE NOT convalidated",
    "rows that break run_status": "SELECT count(*) FROM flowgen.run WHERE NOT (status BETWEEN 0 AND 9"
    " AND (status = 3) = (owner IS NOT NULL) AND (status >= 7) = (finished_at IS NOT NULL)"
    " AND (status <> 1 OR due_at IS NOT NULL))",
    "entries without a run": "SELECT count(*) FROM flowgen.entry e"
    " WHERE NOT EXISTS (SELECT FROM flowgen.run r WHERE r.run_id = e.run_id)",
    "runs without their parent": "SELECT count(*) FROM flowgen.run c WHERE c.parent_id IS NOT NULL"
    " AND NOT EXISTS (SELECT FROM flowgen.run r WHERE r.run_id = c.parent_id)",
}
_INDEXES = """
    SELECT c.conname, c.conrelid::regclass::text,
        (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.place)
         FROM unnest(c.conkey) WITH ORDINALITY AS k(number, place)
         JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.number)
    FROM pg_constraint c WHERE c.contype = 'p' AND c.connamespace = 'flowgen'::regnamespace
"""
