"""What /proc says of processes: CPU seconds, memory; and worker processes that are started, and ended by their id.

Linux only. CPU of a server is that of its whole tree, with the processes that have ended (`cutime`, `cstime`).
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import attrs

__all__ = ["MemorySamples", "WorkerProcess", "cpu_of", "memory_of", "sampled", "tree_cpu"]

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_STOP_SECONDS = 40


def _stat(pid: int) -> list[str]:
    """The fields after the name: state, ppid, ...; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def cpu_of(pid: int) -> float:
    """CPU seconds of a process and of its children that were waited for; 0 when it is gone."""
    fields = _stat(pid)
    return sum(int(each) for each in fields[11:15]) / _TICK if fields else 0.0


def tree_cpu(pid: int) -> float:
    """CPU seconds of a process and all below it, the ended ones included."""
    parents = {}
    for each in Path("/proc").glob("[0-9]*"):
        fields = _stat(int(each.name))
        if fields:
            parents[int(each.name)] = int(fields[1])
    found, more = {pid}, {pid}
    while more:
        more = {each for each, above in parents.items() if above in more} - found
        found |= more
    return sum(cpu_of(each) for each in found)


def memory_of(pid: int) -> int:
    """Resident bytes of a process; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]) * _PAGE
    except (FileNotFoundError, ProcessLookupError):
        return 0


@attrs.define
class MemorySamples:
    """Resident bytes over time: pairs of (seconds, bytes)."""

    points: list[tuple[float, int]] = attrs.field(factory=list)

    @property
    def peak(self) -> int:
        return max((size for _, size in self.points), default=0)


@contextlib.contextmanager
def sampled(pids: Sequence[int], every: float = 0.1) -> Iterator[MemorySamples]:
    """Sample the memory of processes (their sum) while the block runs."""
    samples = MemorySamples()
    over = threading.Event()

    def sample() -> None:
        while True:
            samples.points.append((time.perf_counter(), sum(memory_of(pid) for pid in pids)))
            if over.wait(every):
                return

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        over.set()
        thread.join()


@attrs.define(eq=False)
class WorkerProcess:
    """A worker in a process of its own, with flowgen's defaults."""

    process: subprocess.Popen[bytes]
    log: IO[bytes]

    @classmethod
    def start(
        cls,
        url: str,
        log: Path,
        *,
        concurrency: int | None = None,
        definitions: int = 0,
        profile: Path | None = None,
    ) -> WorkerProcess:
        command = [sys.executable, "-m", "benchmarks.workloads", url, "--definitions", str(definitions)]
        if concurrency is not None:
            command += ["--concurrency", str(concurrency)]
        if profile is not None:
            command += ["--profile", str(profile)]
        file = log.open("ab")
        environ = {name: value for name, value in os.environ.items() if not name.startswith("FLOWGEN_")}
        return cls(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=environ), file)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def stop(self) -> None:
        """SIGTERM, and the end that follows; a worker that does not stop is killed."""
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
