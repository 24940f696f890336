"""The watcher of an embedded server: a tiny process that stops it when no client was connected for a while.

Run by its path with the standard library only, so that it costs a few megabytes and imports nothing of the user's. It
never stops a server that someone has just asked for: asking touches `lock`, and the watcher stops under that lock and
only when it was not touched since it last saw a client. Invariant: there is one watcher per server, the one that holds
`watch`, and it ends with the server.

    python -I -S idle_stop.py FOLDER DATA PSQL SECONDS
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time

CLIENTS = """select count(*) from pg_stat_activity
    where backend_type in ('client backend', 'walsender') and pid <> pg_backend_pid()"""
LONGEST_POLL = 15.0
GONE = -1


def main(folder: str, data: str, psql: str, idle: float) -> None:
    """Poll until the server is gone, or stop it. A folder that was moved or deleted counts as one nobody asks for."""
    watch = _locked(os.path.join(folder, "watch"), fcntl.LOCK_EX | fcntl.LOCK_NB)
    if watch is None:
        return
    lock, alive = os.path.join(folder, "lock"), os.path.join(folder, "alive")
    poll = min(LONGEST_POLL, idle / 4)
    quiet, asked = 0.0, _asked(lock)
    while True:
        time.sleep(poll)
        now, clients = _asked(lock), _clients(data, psql)
        if _held(alive) or (now == GONE and clients is not None):
            quiet = quiet + poll if now == asked and clients == 0 else 0.0
            asked = now
            if quiet < idle:
                continue
        held = _locked(lock, fcntl.LOCK_EX)
        if held is not None and _held(alive) and (quiet < idle or _asked(lock) != asked or _clients(data, psql) != 0):
            os.close(held)
            continue
        if quiet >= idle:
            _stop(data, psql)
        # `watch` goes before `lock`: who takes `lock` next sees that nobody watches.
        os.close(watch)
        return


def _stop(data: str, psql: str) -> None:
    server = _server(data)
    if server is None or _clients(data, psql) is None:  # only a server that answers owns the pid in its file
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(int(server[0]), signal.SIGINT)
    for _ in range(600):
        if _server(data) is None:
            return
        time.sleep(0.1)


def _locked(path: str, how: int) -> int | None:
    """The lock on an existing file; None when another holds it, or the file is gone."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, how)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _held(path: str) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _asked(lock: str) -> int:
    """When someone last asked for the server."""
    try:
        return os.stat(lock).st_mtime_ns
    except OSError:
        return GONE


def _server(data: str) -> list[str] | None:
    try:
        with open(os.path.join(data, "postmaster.pid"), encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    return lines if len(lines) > 4 else None


def _clients(data: str, psql: str) -> int | None:
    """How many clients are connected; None when the server does not say."""
    server = _server(data)
    if server is None:
        return None
    command = [psql, "-X", "-A", "-t", "-q", "-h", server[4], "-p", server[3], "-U", "postgres", "-d", "postgres"]
    environment = {"LC_ALL": "C", "PGCONNECT_TIMEOUT": "10", "PGAPPNAME": "flowgen idle watcher"}
    try:
        said = subprocess.run(  # noqa: S603 - our own program
            [*command, "-c", CLIENTS], capture_output=True, text=True, timeout=60, env=environment, check=False
        )
        return int(said.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
