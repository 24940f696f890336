"""Worker programs in processes of their own, so that they can be killed, and a file for what they note."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.waiting import eventually

PRELUDE = """
import asyncio, os, sys, threading, time
import flowgen
from flowgen import (
    App, Checkpoint, Context, Flow, Gather, Invoke, Retry, Settings, Sleep, Start, Step, StepContext, Transaction,
    CompletionToken, Race, StepInterrupted, Wait, WaitSignal, current, task, workflow,
)

def note(what):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(f"{what}\\n")

def gate(name, seconds=60):
    # the test opens it
    for _ in range(int(seconds * 100)):
        if os.path.exists(os.environ["NOTES"] + "." + name):
            return
        time.sleep(0.01)

"""

POOLED = """
Settings.__init__.__kwdefaults__["pooler"] = True
"""
"""What tests/conftest.py does for workers of its own process."""
QUICK = "Settings(lease=2, poll=0.1, grace=10)"
END = """
if __name__ == "__main__":
    flowgen.run(settings={settings}{more})
"""


class Process:
    """One running program."""

    def __init__(self, popen: subprocess.Popen[str], db: psycopg.Connection[Any], program: Program) -> None:
        self.popen = popen
        self.pid = popen.pid
        self._db = db
        self._program = program
        self.stderr = ""

    def wait_ready(self, workers: int = 1) -> None:
        """Until it (or its own processes) has registered."""
        pids = f"/proc/{self.pid}/task/{self.pid}/children"

        def ready() -> bool:
            if self.popen.poll() is not None:
                raise RuntimeError(self._program.errors())
            own = [self.pid, *map(int, Path(pids).read_text().split())]
            found = self._db.execute(
                "select count(*) from flowgen.worker where pid = any(%s) and not dead", (own,)
            ).fetchone()
            return found is not None and found[0] >= workers

        eventually(ready, timeout=30)

    def children(self) -> list[int]:
        """The worker processes of a supervisor, by their registrations."""
        found = self._db.execute(
            "select distinct pid from flowgen.worker where not dead and pid <> %s", (self.pid,)
        ).fetchall()
        return [row[0] for row in found]

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.popen.wait(10)

    def ended(self, timeout: float = 20) -> int:
        """Its exit code."""
        return self.popen.wait(timeout)


class Program:
    """The source of a worker, and its notes."""

    def __init__(self, folder: Path, url: str, db: psycopg.Connection[Any]) -> None:
        self.folder = folder
        self._url = url
        self._db = db
        self._notes = folder / "notes"
        self._processes: list[Process] = []
        self._errors = folder / "stderr"

    def write(self, source: str, *, settings: str = QUICK, more: str = "", main: bool = True) -> None:
        """`more` are further arguments of `flowgen.run`; without `main` the source runs it by itself."""
        text = PRELUDE + (POOLED if os.environ.get("FLOWGEN_TEST_POOLER") else "") + source
        if main:
            text += END.format(settings=settings, more=f", {more}" if more else "")
        (self.folder / "program.py").write_text(text)

    def start(self, *, workers: int = 1, stdout: int | None = None, group: bool = False, **env: str) -> Process:
        """Run it; returns when it is registered, unless `workers` is 0. `group`: as the leader of a process group."""
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("FLOWGEN_", "PYTEST_"))}
        environ |= {key: value for key, value in os.environ.items() if key == "FLOWGEN_EVICT"}
        environ |= {"FLOWGEN_URL": self._url, "NOTES": str(self._notes), "PYTHONPATH": os.getcwd(), **env}
        with self._errors.open("a") as errors:
            popen = subprocess.Popen(
                [sys.executable, "-W", "error", str(self.folder / "program.py")],
                cwd=self.folder, env=environ, stderr=errors, stdout=errors if stdout is None else stdout, text=True,
                start_new_session=group,
            )  # fmt: skip
        process = Process(popen, self._db, self)
        self._processes.append(process)
        if workers:
            process.wait_ready(workers)
        return process

    def open(self, gate: str) -> None:
        """Let what waits at this gate go on."""
        Path(f"{self._notes}.{gate}").touch()

    def notes(self) -> list[str]:
        return self._notes.read_text().split("\n")[:-1] if self._notes.exists() else []

    def noted(self, what: str, times: int = 1, timeout: float = 20) -> None:
        """Wait for a note."""
        eventually(lambda: self.notes().count(what) >= times, timeout)

    def errors(self) -> str:
        """What the processes said."""
        return self._errors.read_text() if self._errors.exists() else ""

    def end(self) -> None:
        for process in self._processes:
            if process.popen.poll() is None:
                process.signal(signal.SIGCONT)
                for child in process.children():
                    with _gone_is_fine():
                        os.kill(child, signal.SIGKILL)
                process.kill()


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    try:
        yield
    except ProcessLookupError:
        pass
