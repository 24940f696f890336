"""The worker processes of a run of the harness: started, killed, started again, and at last stopped gracefully.

Each unit is one `flowgen.run`: a plain process, or a supervisor with two; some connect through a proxy of their own.
Who lives is known from the witness's `up` lines, so that a process is killed only once its code is loaded.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from tests.chaos import witness
from tests.chaos.bodies import DEATH
from tests.proxy import Proxy

ROOT = Path(__file__).resolve().parents[2]


def launch(
    module: str, *arguments: str, log: Path, spoken: Path | None = None, **environ: str
) -> subprocess.Popen[bytes]:
    """Start `python -m module` with its output in `log`; `spoken` is the witness file."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("FLOWGEN_", "PYTEST_", "PG"))}
    environment |= {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environ}
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
    url: str
    proxy: Proxy | None = None
    code: int = 2
    process: subprocess.Popen[bytes] | None = None
    killed: bool = False
    leaving: bool = False
    """Told to stop, and not started again until `again`."""
    again_at: float = 0.0


@attrs.define
class Worker:
    """A live worker process."""

    who: str
    pid: int
    unit: Unit


class Fleet:
    """All units, and what the witness says of their processes."""

    def __init__(self, folder: Path, units: Sequence[Unit], settings: dict[str, Any], environ: dict[str, str]) -> None:
        self.folder = folder
        self.spoken = folder / "witness.jsonl"
        self.units = list(units)
        self.died: list[dict[str, Any]] = []
        """Processes that ended although nobody killed them."""
        self.lines = 0
        self.stopped: dict[int, float] = {}
        """Pids that are stopped by a signal, with the time at which they go on."""
        self._settings = json.dumps(settings)
        self._environ = environ
        self._seen: dict[int, tuple[str, int]] = {}
        self._read = 0
        self._gone: set[str] = set()

    @property
    def size(self) -> int:
        return sum(unit.processes for unit in self.units)

    def tend(self) -> None:
        """Start what is not running and should be; notice who died by himself; let go on who was stopped."""
        now = time.monotonic()
        for pid, until in list(self.stopped.items()):
            if now >= until:
                self.go_on(pid)
        self._listen()
        for unit in self.units:
            if unit.process is not None and unit.process.poll() is not None:
                if not unit.killed and not unit.leaving:
                    if unit.process.returncode != DEATH:
                        self._mourn(unit.name, unit.process.pid, str(unit.process.returncode))
                    unit.again_at = now + 0.3
                unit.process = None
            if unit.process is None and not unit.leaving and now >= unit.again_at:
                self._launch(unit)
            elif unit.processes > 1 and not unit.killed and not unit.leaving:
                self._miss(unit)

    def _launch(self, unit: Unit) -> None:
        log = self.folder / f"{unit.name}.log"
        unit.killed = False
        unit.process = launch(
            "tests.chaos.process", unit.url, self._settings, str(unit.processes), log=log, spoken=self.spoken,
            CHAOS_CODE=str(unit.code), **self._environ,
        )  # fmt: skip

    def _miss(self, unit: Unit) -> None:
        """Notice a supervised process that is gone although nobody here killed it."""
        if unit.process is None:
            return
        for pid, (who, parent) in self._seen.items():
            if parent == unit.process.pid and who not in self._gone and not _alive(pid):
                self._listen()  # its last words
                if who not in self._gone:
                    self._gone.add(who)
                    self._mourn(unit.name, pid, "gone")

    def workers(self) -> list[Worker]:
        """Who lives, has its code loaded, and is not stopped."""
        found: list[Worker] = []
        for pid, (who, parent) in list(self._seen.items()):
            unit = next((u for u in self.units if u.process is not None and u.process.pid in (pid, parent)), None)
            if who in self._gone or unit is None or unit.leaving or pid in self.stopped or not _alive(pid):
                continue
            if unit.processes == 1 or parent == unit.process.pid:  # type: ignore[union-attr]
                found.append(Worker(who, pid, unit))
        return sorted(found, key=lambda worker: worker.who)

    def whos(self, unit: Unit) -> list[str]:
        """The live processes of a unit."""
        if unit.process is None:
            return []
        mine = {unit.process.pid}
        return [who for pid, (who, parent) in self._seen.items() if who not in self._gone and {pid, parent} & mine]

    def kill(self, worker: Worker, down: float) -> None:
        """SIGKILL one worker; a plain one comes back after `down` seconds, the other by its supervisor."""
        self._gone.add(worker.who)
        if worker.unit.processes == 1:
            worker.unit.killed = True
            worker.unit.again_at = time.monotonic() + down
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGKILL)

    def stop_for(self, worker: Worker, seconds: float) -> None:
        """SIGSTOP; SIGCONT follows."""
        os.kill(worker.pid, signal.SIGSTOP)
        self.stopped[worker.pid] = time.monotonic() + seconds

    def go_on(self, pid: int) -> None:
        self.stopped.pop(pid, None)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    def kill_supervisor(self, down: float) -> Unit | None:
        """SIGKILL a supervisor: its workers are to stop by themselves."""
        for unit in self.units:
            if unit.processes > 1 and unit.process is not None and not unit.killed:
                unit.killed = True
                unit.again_at = time.monotonic() + down
                unit.process.kill()
                return unit
        return None

    def terminate(self, unit: Unit) -> None:
        """SIGTERM to a unit, which stays away until `again`."""
        unit.leaving = True
        self._gone.update(self.whos(unit))
        if unit.process is not None:
            unit.process.terminate()

    def again(self, unit: Unit, code: int) -> None:
        """Start a unit that was told to stop, with this version of the code."""
        if unit.process is not None and unit.process.poll() is not None:
            unit.process = None
        unit.leaving, unit.code, unit.again_at = False, code, 0.0

    def stop(self, seconds: float) -> list[str]:
        """SIGTERM to all; names of those that did not end well in time, which are then killed."""
        for pid in list(self.stopped):
            self.go_on(pid)
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

    def show_stacks(self) -> None:
        """Let every worker write into its log where its threads stand."""
        for worker in self.workers():
            os.kill(worker.pid, signal.SIGUSR1)

    def orphans(self) -> list[int]:
        """Processes of workers that are still there."""
        return [pid for pid in self._seen if _alive(pid) and _is_ours(pid)]

    def abandon(self) -> None:
        """Kill everything, whatever happened."""
        for unit in self.units:
            if unit.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(unit.process.pid, signal.SIGKILL)
        for pid in self.orphans():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def logs(self) -> list[str]:
        """What the processes wrote to their output."""
        found: list[str] = []
        for unit in self.units:
            log = self.folder / f"{unit.name}.log"
            if log.exists():
                found += log.read_text(encoding="utf-8", errors="replace").splitlines()
        return found

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
        if b'"e":"up"' in data or b'"e":"die"' in data:
            for line in data.splitlines():
                if line.startswith(b'{"e":"up"'):
                    told = json.loads(line)
                    self._seen[told["pid"]] = (told["who"], told["parent"])
                elif line.startswith(b'{"e":"die"'):
                    self._gone.add(json.loads(line)["who"])


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False


def _is_ours(pid: int) -> bool:
    with contextlib.suppress(OSError):
        said = Path(f"/proc/{pid}/cmdline").read_bytes()
        return b"tests.chaos.process" in said or b"multiprocessing" in said
    return False
