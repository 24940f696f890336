"""Many worker processes, each there within milliseconds, and what they run.

`python -m tests.faults.fleet` is a parent that has imported everything; it forks a worker for each line that it reads
and says its pid. `Fleet` is what a test has of it.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import flowgen
from flowgen import App, Settings
from tests.waiting import eventually

PATIENCE = 60.0
"""Seconds for one fact, on a machine that does other work too."""

app = App(name="fleet")
_asked: dict[str, Any] = {"holds": False}


def note(what: str) -> None:
    """One line in the file of this test; a SIGKILL that follows does not take it back."""
    with open(_asked["notes"], "ab", buffering=0) as notes:
        notes.write(f"{what}\n".encode())


@app.task
def nothing(n: int) -> int:
    """A worker that holds never comes to its end, but for negative numbers."""
    while n >= 0 and _asked["holds"]:
        time.sleep(0.05)
    return n


@app.task
def noted(n: int) -> str:
    """The name of the worker; one that holds never comes to its end."""
    note(f"{n} {_asked['name']}")
    while _asked["holds"]:
        time.sleep(0.05)
    return str(_asked["name"])


class Fleet:
    """The parent of the workers. Closing it kills them."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._notes = folder / "notes"
        self._log = folder / "log"
        self._pids: list[int] = []
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.faults.fleet"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.getcwd()}, text=True,
        )  # fmt: skip

    def start(self, **asked: Any) -> int:
        """The pid of a new worker. `holds`: it ends no call; `name`; `queues`; `host` and `pid`: what it says it is."""
        line = {"url": self._url, "notes": str(self._notes), "log": str(self._log), "holds": False, "name": "", **asked}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()
        self._pids.append(int(self._process.stdout.readline()))
        return self._pids[-1]

    def notes(self) -> list[str]:
        return self._notes.read_text().splitlines() if self._notes.exists() else []

    def log(self) -> str:
        """What the workers said, all of them."""
        return self._log.read_text() if self._log.exists() else ""

    def send(self, number: int, *pids: int) -> None:
        for pid in pids:
            os.kill(pid, number)

    def kill(self, *pids: int) -> None:
        """kill -9, all at once, and wait until they are gone."""
        self.send(signal.SIGKILL, *pids)
        self.gone(pids)

    def gone(self, pids: Iterable[int]) -> None:
        """Wait until they have ended."""
        eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        left = [pid for pid in self._pids if Path(f"/proc/{pid}").exists()]
        self.kill(*left)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._process.stdout.close()


def main() -> None:
    """Fork what each line of standard input asks for, until it ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks for their exit codes
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _asked.update(json.loads(line))
            _live()
        print(pid, flush=True)


def _live() -> None:
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        log = os.open(_asked["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        for number in (0, 1, 2):
            os.dup2(os.open(os.devnull, os.O_RDONLY) if number == 0 else log, number)
        logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
        if "host" in _asked:  # as in two containers with the same settings
            socket.gethostname = lambda: str(_asked["host"])
            os.getpid = lambda: int(_asked["pid"])
        settings = Settings(lease=_asked.get("lease", 2), poll=0.1, grace=10)
        flowgen.run(_asked["url"], app=app, queues=_asked.get("queues"), settings=settings)
        code = 0
    except BaseException as error:
        logging.getLogger("fleet").exception("ended: %s", type(error).__name__)
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
