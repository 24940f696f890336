"""A disk that is full: of the data, and of the write-ahead log. A small file system of memory stands for it."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import flowgen
from flowgen import App, RunQuery, Settings
from flowgen.client.sync import Client, connect
from flowgen.postgres import embedded
from flowgen.postgres.migrate import migrate_url
from flowgen.testing.plugin import _url_of
from tests.faults.servers import OwnServer
from tests.waiting import eventually

MIB = 1 << 20
RUNS = 150
SIZE = 100_000
"""Bytes of each result, which no compression makes smaller."""


class Disk:
    """A file system of so many MiB, with a ballast in it."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder = folder
        folder.mkdir()
        owner = (folder.parent / "data").stat()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", str(folder)], check=True)
        os.chown(folder, owner.st_uid, owner.st_gid)
        self._ballast = folder / "ballast"

    def leave(self, free: int) -> None:
        """Fill all but so many MiB."""
        with self._ballast.open("wb") as file:
            file.write(b"\0" * max(0, shutil.disk_usage(self.folder).free - free * MIB))

    def clear(self) -> None:
        self._ballast.unlink()

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=True)
        self.folder.rmdir()


def may_mount() -> bool:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    tried = subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False)
    return tried.returncode == 0


pytestmark = [
    pytest.mark.nightly,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not may_mount(), reason="a small file system needs root and mount"),
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[OwnServer]:
    made = OwnServer(tmp_path / "server", max_wal_size="48MB", min_wal_size="32MB", wal_recycle="off")
    yield made
    made.end()


@pytest.fixture
def app() -> App:
    app = App()

    @app.task
    def large(n: int) -> str:
        return secrets.token_hex(SIZE // 2)

    return app


def beside(server: OwnServer) -> Path:
    """A folder that the server's user may enter."""
    data = embedded.status(server.folder).data
    assert data is not None
    return data.parent / "disk"


def all_end(client: Client) -> None:
    eventually(lambda: client.count(RunQuery(status=["completed"])) == RUNS, timeout=120)
    runs = client.list(RunQuery(limit=RUNS)).runs
    assert {len(run.result()) for run in runs} == {SIZE}


@pytest.mark.fault("F39")
def test_on_a_full_disk_runs_wait_and_are_read_and_go_on_when_there_is_room(
    server: OwnServer, app: App, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk(beside(server), 80)
    try:
        with server.connected(server.url) as conn:
            conn.execute(f"CREATE TABLESPACE small LOCATION '{disk.folder}'")
            conn.execute("CREATE DATABASE full_one TABLESPACE small")
        url = _url_of(server.url, "full_one")
        migrate_url(url, "flowgen")
        disk.leave(6)
        with connect(url, app=app) as client:
            runs = client.start_many([app.definition("large").call(n) for n in range(RUNS)])
            with caplog.at_level(logging.WARNING), flowgen.worker(url, app=app, settings=Settings(lease=5, poll=0.1)):
                eventually(lambda: "No space left on device" in caplog.text, timeout=60)
                done = client.count(RunQuery(status=["completed"]))
                assert done < RUNS
                assert client.get(runs[0].id).id == runs[0].id
                disk.clear()
                all_end(client)
            attempts = client.list(RunQuery(limit=RUNS)).runs
            assert {run.attempt for run in attempts} == {1}
        with server.connected(server.url) as conn:
            conn.execute("DROP DATABASE full_one WITH (FORCE)")
            conn.execute("DROP TABLESPACE small")
    finally:
        disk.close()


@pytest.mark.fault("F40")
def test_a_full_disk_of_the_log_ends_the_server_and_nothing_that_was_acknowledged(server: OwnServer, app: App) -> None:
    data = embedded.status(server.folder).data
    assert data is not None
    url = server.database("full_two")
    server.stop()
    disk = Disk(beside(server), 160)
    try:
        wal = data / "pg_wal"
        shutil.copytree(wal, disk.folder / "pg_wal", copy_function=_copy)
        os.chown(disk.folder / "pg_wal", data.stat().st_uid, data.stat().st_gid)
        os.chmod(disk.folder / "pg_wal", 0o700)
        shutil.rmtree(wal)
        wal.symlink_to(disk.folder / "pg_wal")
        server.start()
        with connect(url, app=app) as client:
            runs = client.start_many([app.definition("large").call(n) for n in range(RUNS)])
            disk.leave(4)
            with flowgen.worker(url, app=app, settings=Settings(lease=5, poll=0.1)):
                eventually(lambda: "PANIC" in server.log() or "No space left" in server.log(), timeout=60)
                disk.clear()
                eventually(lambda: server.start() and _answers(server), timeout=60)
                all_end(client)
            assert {run.id for run in client.list(RunQuery(limit=RUNS)).runs} == {run.id for run in runs}
    finally:
        server.stop("immediate")
        disk.close()


def _copy(source: str, target: str) -> None:
    shutil.copy2(source, target)
    found = os.stat(source)
    os.chown(target, found.st_uid, found.st_gid)


def _answers(server: OwnServer) -> bool:
    with psycopg.connect(server.url, autocommit=True) as conn:
        return conn.execute("SELECT 1").fetchone() == (1,)
