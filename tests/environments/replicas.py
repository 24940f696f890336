"""A primary and its standby, of the embedded server's own programs, to fail over between.

    with Cluster(folder) as cluster:
        cluster.primary, cluster.standby        Server: .url(database), .start(), .stop(), .run(sql), .promote()
        cluster.url                             both, the one that takes writes

Asynchronous unless `synchronous`. `detach` ends the replication without a word, so that what is committed from then on
is lost by a failover.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import psycopg

from flowgen.postgres.server_binaries import environment, find_binaries, reachable
from flowgen.postgres.server_folder import Place, ServerFolder, make_private
from tests.waiting import eventually

__all__ = ["Cluster", "Server"]

PORT = 5432
SETTINGS = {"max_connections": "100", "shared_buffers": "32MB", "hot_standby_feedback": "off", "wal_keep_size": "256MB"}


class Server:
    """One data folder and its server."""

    def __init__(self, place: Place, programs: Path, data: Path, port: int) -> None:
        self.data = data
        self.port = port
        self._place = place
        self._programs = programs

    def url(self, database: str = "postgres") -> str:
        host = quote(str(self._place.sockets), safe="")
        return f"postgresql://postgres@/{database}?host={host}&port={self.port}"

    def call(self, program: str, *arguments: str) -> None:
        owner = self._place.owner
        said = subprocess.run(
            [str(self._programs / program), *arguments], capture_output=True, text=True, timeout=100, cwd="/",
            env=environment(), stdin=subprocess.DEVNULL,
            user=None if owner is None else owner.uid, group=None if owner is None else owner.gid,
            extra_groups=None if owner is None else [],
        )  # fmt: skip
        assert said.returncode == 0, f"{program}: {said.stdout}{said.stderr}"

    def start(self, **settings: str) -> None:
        """Start it, and wait until it answers."""
        given = {**SETTINGS, "listen_addresses": "", "unix_socket_directories": str(self._place.sockets), **settings}
        options = " ".join(f"-c {name}='{value}'" for name, value in {**given, "port": self.port}.items())
        log = self.data.with_name(f"{self.data.name}.log")
        self.call("pg_ctl", "-D", str(self.data), "-w", "-t", "60", "-l", str(log), "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        self.call("pg_ctl", "-D", str(self.data), "-w", "-t", "60", "-m", mode, "stop")

    def promote(self) -> None:
        """Make a primary of a standby, on a timeline of its own."""
        self.call("pg_ctl", "-D", str(self.data), "-w", "-t", "60", "promote")

    def backup(self, to: Path, *more: str) -> Server:
        """A copy of the folder as it is now, which may be started on its own."""
        self.call("pg_basebackup", "-D", str(to), "-d", self.url(), "-c", "fast", "-X", "stream", *more)
        return Server(self._place, self._programs, to, self.port)

    def run(self, statement: str, database: str = "postgres") -> Any:
        """The first cell of what a statement gives."""
        with psycopg.connect(self.url(database), autocommit=True) as conn:
            cursor = conn.execute(statement.encode())
            row = cursor.fetchone() if cursor.description else None
            return row[0] if row else None


class Cluster:
    """A primary with a standby that streams from it."""

    def __init__(self, folder: Path, *, synchronous: bool = False) -> None:
        self._synchronous = synchronous
        home = ServerFolder(folder.resolve())
        home.create()
        self._place = home.place()
        found, _ = find_binaries(None)
        self._programs = reachable(found, self._place.owner)
        self._base = self._place.data.with_name(f"{self._place.data.name}-cluster")

    def __enter__(self) -> Self:
        if not self._place.data.is_relative_to(self._base.parent):  # pragma: no cover
            raise AssertionError(self._base)
        self._base.parent.mkdir(mode=0o711, exist_ok=True, parents=True)
        make_private(self._base, self._place.owner)
        make_private(self._place.sockets, self._place.owner)
        self.primary = Server(self._place, self._programs, self._base / "one", PORT)
        options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        self.primary.call("initdb", "-D", str(self.primary.data), *options)
        self.primary.start()
        copied = self.primary.backup(self._base / "two", "-R", "--no-sync", "-C", "-S", "two")
        self.standby = Server(self._place, self._programs, copied.data, PORT + 1)
        self.standby.start(cluster_name="two")
        if self._synchronous:
            self.primary.run("ALTER SYSTEM SET synchronous_standby_names = '*'")
            self.primary.run("SELECT pg_reload_conf()")
            eventually(lambda: self.primary.run("SELECT sync_state FROM pg_stat_replication") == "sync", timeout=30)
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self.primary, self.standby):
            with contextlib.suppress(AssertionError):
                server.stop()
        shutil.rmtree(self._base)
        shutil.rmtree(self._place.sockets, ignore_errors=True)

    @property
    def url(self) -> str:
        host = quote(str(self._place.sockets), safe="")
        ports = f"{self.primary.port},{self.standby.port}"
        return f"postgresql://postgres@/postgres?host={host},{host}&port={ports}&target_session_attrs=read-write"

    @property
    def folder(self) -> Path:
        """Where another server's data may be put."""
        return self._base

    def caught_up(self) -> None:
        """Wait until the standby has all that is committed by now."""
        here = self.primary.run("SELECT pg_current_wal_flush_lsn()")
        there = f"SELECT pg_last_wal_replay_lsn() >= '{here}'::pg_lsn"
        eventually(lambda: self.standby.run(there), timeout=30)

    def detach(self) -> None:
        """Nothing reaches the standby any more."""
        self.standby.run("ALTER SYSTEM SET primary_conninfo = ''")
        self.standby.run("SELECT pg_reload_conf()")
        eventually(lambda: self.standby.run("SELECT count(*) FROM pg_stat_wal_receiver") == 0, timeout=30)
