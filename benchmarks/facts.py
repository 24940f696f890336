"""What machine it was: cores, memory, how fast a commit reaches the disk, how long a round trip is, and versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import time
from pathlib import Path

import psycopg

from benchmarks.measure import Stage
from flowgen.postgres import embedded

__all__ = ["facts"]

SYNCS = 300
TRIPS = 2000
_PAGE = b"\0" * 8192


def facts(stage: Stage) -> dict[str, str | float]:
    """Facts for the head of the report, in the order in which they are shown."""
    data = embedded.status(stage.folder / ".flowgen").data
    assert data is not None
    settings = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.1f} GiB",
        "load average at the start": f"{os.getloadavg()[0]:.2f}",
        "file system": _file_system(data),
        "fdatasync of 8 KiB, median": f"{sync_seconds(data.parent) * 1e6:.0f} µs",
        "round trip (SELECT 1), median": f"{_trip_seconds(stage) * 1e6:.0f} µs",
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        "PostgreSQL": stage.one("SHOW server_version")[0],
        "psycopg": f"{importlib.metadata.version('psycopg')} ({psycopg.pq.__impl__})",
        "flowgen": importlib.metadata.version("flowgen"),
        "server settings": ", ".join(f"{name} = {stage.one(f'SHOW {name}')[0]}" for name in settings),
    }


def sync_seconds(folder: Path) -> float:
    """The median time of writing a page and waiting until the disk has it."""
    path = folder / f"sync-{os.getpid()}"
    taken = []
    file = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        os.pwrite(file, _PAGE * 64, 0)
        os.fsync(file)
        for at in range(SYNCS):
            begun = time.perf_counter()
            os.pwrite(file, _PAGE, at % 64 * len(_PAGE))
            os.fdatasync(file)
            taken.append(time.perf_counter() - begun)
    finally:
        os.close(file)
        path.unlink()
    return statistics.median(taken)


def _trip_seconds(stage: Stage) -> float:
    taken = []
    for _ in range(TRIPS):
        begun = time.perf_counter()
        stage.conn.execute("SELECT 1").fetchone()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def _file_system(path: Path) -> str:
    """The type of the file system that holds `path`."""
    best, kind = "", "unknown"
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        _, mount, each = line.split()[:3]
        if path.is_relative_to(mount) and len(mount) >= len(best):
            best, kind = mount, each
    return kind
