"""A pgbouncer in transaction mode in front of a server: every database under its own name, on a socket of its own.

    with Pooler(server_url, query_wait_timeout=2) as pooler:
        pooler.before(url)                  the same database, reached through it
        pooler.behind(url)                  and back
        pooler.admin("RECONNECT")           a command of its console

`max_prepared_statements` is 0, or unknown to it: a named prepared statement breaks.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict

__all__ = ["Pooler", "missing"]

PORT = 6432


def missing() -> str:
    """Why there can be none here; empty when there can."""
    if shutil.which("pgbouncer", path=PATH) is None:
        return "pgbouncer is not installed (Debian: apt-get install pgbouncer)"
    return ""


PATH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin"


class Pooler:
    """One pgbouncer process."""

    def __init__(self, server_url: str, *, pool_size: int = 20, **settings: Any) -> None:
        given = conninfo_to_dict(server_url)
        self._host = str(given.get("host") or given.get("hostaddr") or "127.0.0.1")
        self._port = int(given.get("port") or 5432)
        self._user = str(given.get("user") or "postgres")
        self._settings = {
            "pool_mode": "transaction",
            "auth_type": "any",
            "admin_users": "postgres",
            "listen_addr": "",
            "listen_port": PORT,
            "default_pool_size": pool_size,
            "max_client_conn": 2000,
            "max_db_connections": 0,
            "ignore_startup_parameters": "extra_float_digits",
            "server_idle_timeout": 10,
            "server_reset_query": "",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        # As root it refuses to run, and the embedded server's socket is its owner's alone.
        owner = Path(self._host).stat() if self._host.startswith("/") and os.getuid() == 0 else None
        user: Any = {} if owner is None else {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
        self.folder = Path(tempfile.mkdtemp(prefix="flowgen-pooler-", dir="/tmp"))
        given = "".join(f"{name} = {value}\n" for name, value in self._settings.items())
        (self.folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={self._host} port={self._port} user={self._user}\n[pgbouncer]\n"
            f"unix_socket_dir = {self.folder}\nlogfile = {self.folder}/log\n{given}"
        )
        self.folder.chmod(0o755)
        if owner is not None:
            os.chown(self.folder, owner.st_uid, owner.st_gid)
        program = shutil.which("pgbouncer", path=PATH)
        assert program is not None
        self._process = subprocess.Popen(
            [program, "-q", str(self.folder / "pgbouncer.ini")], stdin=subprocess.DEVNULL, cwd="/", **user
        )
        for _ in range(200):
            with contextlib.suppress(psycopg.OperationalError):
                self.admin("SHOW VERSION")
                return self
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError(f"pgbouncer did not start: {(self.folder / 'log').read_text()}")

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        shutil.rmtree(self.folder)

    def before(self, url: str) -> str:
        """The URL of the same database through the pooler."""
        return self._url(url, str(self.folder), PORT)

    def behind(self, url: str) -> str:
        """The URL of the same database without the pooler."""
        return self._url(url, self._host, self._port)

    def _url(self, url: str, host: str, port: int) -> str:
        given = conninfo_to_dict(url)
        return (
            f"postgresql://{given.get('user', self._user)}@/{given['dbname']}?host={quote(host, safe='')}&port={port}"
        )

    def admin(self, command: str) -> list[tuple[Any, ...]]:
        """Run a command of the console; its rows, if it gives any. The console speaks the simple protocol only."""
        conn = psycopg.connect(
            host=str(self.folder), port=PORT, user="postgres", dbname="pgbouncer", autocommit=True,
            cursor_factory=psycopg.ClientCursor,
        )  # fmt: skip
        try:
            cursor = conn.execute(command.encode())
            return cursor.fetchall() if cursor.description else []
        finally:
            conn.close()
