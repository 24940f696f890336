"""The worker processes of a run of the harness: started, killed, started again, and at last stopped gracefully.

Each unit is one `flowgen.run`: a plain process, or a supervisor with two. Who lives is known from the witness's `up`
lines, so that a process is killed only once its code is loaded.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import attrs

from tests.chaos import witness

ROOT = Path(__file__).resolve().parents[2]


def launch(module: str, *arguments: str, log: Path, spoken: Path | None = None) -> subprocess.Popen[bytes]:
    """Start `python -m module` with its output in `log`; `spoken` is the witness file."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    if spoken is not None:
        environment[witness.VARIABLE] = str(spoken)
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip


@attrs.define(eq=False)
class Unit:
    """One `flowgen.run`."""

    name: str
    processes: int
    process: subprocess.Popen[bytes] | None = None
    killed: bool = False
    again_at: float = 0.0


@attrs.define
class Worker:
    """A live worker process."""

    who: str
    pid: int
    unit: Unit


class Fleet:
    """All units, and what the witness says of their processes."""

    def __init__(self, folder: Path, url: str, lease: float, plain: int, supervised: int) -> None:
        self.folder = folder
        self.spoken = folder / "witness.jsonl"
        self.units = [Unit(f"plain-{place}", 1) for place in range(plain)]
        self.units += [Unit(f"supervised-{place}", 2) for place in range(supervised)]
        self.died: list[dict[str, Any]] = []
        """Processes that ended although nobody killed them."""
        self.lines = 0
        self._arguments = (url, str(lease))
        self._seen: dict[int, tuple[str, int]] = {}
        self._read = 0
        self._gone: set[str] = set()

    def tend(self) -> None:
        """Start what is not running and should be; notice who died by himself."""
        for unit in self.units:
            if unit.process is not None and unit.process.poll() is not None:
                if not unit.killed:
                    self._mourn(unit.name, unit.process.pid, str(unit.process.returncode))
                    unit.again_at = time.monotonic() + 0.5
                unit.process = None
            if unit.process is None and time.monotonic() >= unit.again_at:
                log = self.folder / f"{unit.name}.log"
                unit.killed = False
                unit.process = launch(
                    "tests.chaos.process", *self._arguments, str(unit.processes), log=log, spoken=self.spoken
                )
            elif unit.processes > 1 and not unit.killed:
                self._miss(unit)
        self._listen()

    def _miss(self, unit: Unit) -> None:
        """Notice a supervised process that is gone although nobody here killed it."""
        assert unit.process is not None
        for pid, (who, parent) in self._seen.items():
            if parent == unit.process.pid and who not in self._gone and not _alive(pid):
                self._gone.add(who)
                self._mourn(unit.name, pid, "gone")

    def workers(self) -> list[Worker]:
        """Who lives and has its code loaded."""
        found: list[Worker] = []
        for pid, (who, parent) in list(self._seen.items()):
            unit = next((u for u in self.units if u.process is not None and u.process.pid in (pid, parent)), None)
            if who in self._gone or unit is None or not _alive(pid):
                continue
            if unit.processes == 1 or parent == unit.process.pid:  # type: ignore[union-attr]
                found.append(Worker(who, pid, unit))
        return sorted(found, key=lambda worker: worker.who)

    def kill(self, worker: Worker, down: float) -> None:
        """SIGKILL one worker; a plain one comes back after `down` seconds, the other by its supervisor."""
        self._gone.add(worker.who)
        if worker.unit.processes == 1:
            worker.unit.killed = True
            worker.unit.again_at = time.monotonic() + down
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGKILL)

    def kill_supervisor(self, down: float) -> Unit | None:
        """SIGKILL a supervisor: its workers are to stop by themselves."""
        for unit in self.units:
            if unit.processes > 1 and unit.process is not None:
                unit.killed = True
                unit.again_at = time.monotonic() + down
                unit.process.kill()
                return unit
        return None

    def stop(self, seconds: float) -> list[str]:
        """SIGTERM to all; names of those that did not end well in time, which are then killed."""
        late: list[str] = []
        running = [unit for unit in self.units if unit.process is not None and unit.process.poll() is None]
        for unit in running:
            unit.process.terminate()  # type: ignore[union-attr]
        until = time.monotonic() + seconds
        for unit in running:
            process = unit.process
            assert process is not None
            try:
                code = process.wait(max(0.1, until - time.monotonic()))
                if code != 0:
                    late.append(f"{unit.name} ended with {code}")
            except subprocess.TimeoutExpired:
                late.append(f"{unit.name} did not end")
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return late

    def abandon(self) -> None:
        """Kill everything, whatever happened."""
        for unit in self.units:
            if unit.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(unit.process.pid, signal.SIGKILL)
        for pid in self._seen:
            if _alive(pid) and _is_ours(pid):
                os.kill(pid, signal.SIGKILL)

    def _mourn(self, name: str, pid: int, code: str) -> None:
        log = (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")
        who = self._seen.get(pid, ("", 0))[0]
        self.died.append(
            {"unit": name, "pid": pid, "who": who, "code": code, "t": time.monotonic(), "log": log[-1500:]}
        )

    def _listen(self) -> None:
        """Read what the witness file has new, complete lines only."""
        if not self.spoken.exists():
            return
        with self.spoken.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        data = data[: data.rfind(b"\n") + 1]
        self._read += len(data)
        self.lines += data.count(b"\n")
        for line in data.splitlines():
            if b'"e":"up"' in line:
                told = json.loads(line)
                self._seen[told["pid"]] = (told["who"], told["parent"])


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False


def _is_ours(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return (
            b"tests.chaos.process" in Path(f"/proc/{pid}/cmdline").read_bytes()
            or b"multiprocessing" in Path(f"/proc/{pid}/cmdline").read_bytes()
        )
    return False
