"""One case: a worker meets a failpoint on the journey, others go on, and what is left is judged.

Cases run side by side, each on a database and a file of its own.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import psycopg

import flowgen
from flowgen.testing import replay
from tests.faults import journey
from tests.waiting import eventually

PATIENCE = 45.0
"""Seconds for one fact of one case, on a machine that does other work too."""

AUDIT = """
CREATE TABLE public.ledger (run text);
CREATE TABLE public.audit (what text);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_TABLE_NAME = 'entry' THEN
        INSERT INTO public.audit VALUES ('entry ' || lower(TG_OP));
    ELSIF OLD.status >= 7 THEN
        INSERT INTO public.audit VALUES (OLD.name || ' left its end');
    ELSE
        INSERT INTO public.audit VALUES (OLD.name || ' ended');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER UPDATE OR DELETE ON flowgen.entry FOR EACH ROW EXECUTE FUNCTION audit();
CREATE TRIGGER audit AFTER UPDATE ON flowgen.run FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status AND (OLD.status >= 7 OR NEW.status >= 7)) EXECUTE FUNCTION audit();
"""


class Forks:
    """The parent of the workers, and what it says of them."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.faults.journey"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.getcwd()},
        )  # fmt: skip
        self._lock = threading.Lock()
        self._said: dict[str, queue.SimpleQueue[dict[str, Any]]] = {}
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def start(self, **asked: Any) -> Fork:
        case = uuid.uuid4().hex
        self._said[case] = queue.SimpleQueue()
        line = json.dumps({"case": case, "failpoints": "", **asked}).encode() + b"\n"
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.write(line)
            self._process.stdin.flush()
        said = self._said[case].get(timeout=PATIENCE)
        return Fork(said["pid"], self._said[case], Path(asked["log"]))

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._thread.join()
        self._process.stdout.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            self._said[said["case"]].put(said)


class Fork:
    """One worker process."""

    def __init__(self, pid: int, said: queue.SimpleQueue[dict[str, Any]], log: Path) -> None:
        self.pid = pid
        self.log = log
        self.code: int | None = None
        self._said = said

    def fired(self, point: str) -> bool:
        return f"failpoint {point}:" in self.log.read_text() if self.log.exists() else False

    @property
    def alive(self) -> bool:
        try:
            self.code = self._said.get_nowait()["code"]
        except queue.Empty:
            pass
        return self.code is None

    def ended(self) -> int:
        """Its exit code, when it has ended."""
        if self.code is None:
            self.code = self._said.get(timeout=PATIENCE)["code"]
        return self.code

    def kill(self, number: int = signal.SIGKILL) -> None:
        if self.alive:
            os.kill(self.pid, number)


@attrs.define
class Case:
    """What is armed in which worker, one after the other; the last failpoint of each is the one that has to fire."""

    workers: Sequence[str]
    problems: list[str] = attrs.field(factory=list)
    bodies: Counter[str] = attrs.field(factory=Counter)

    @property
    def points(self) -> list[tuple[str, str]]:
        last = [armed.split(",")[-1].strip() for armed in self.workers]
        return [(each.partition("=")[0].partition(":")[0], each.partition("=")[2].partition(":")[0]) for each in last]

    def check(self, so: bool, what: str) -> None:
        if not so:
            self.problems.append(what)


def carry_out(case: Case, forks: Forks, url: str, folder: Path) -> Case:
    """Run a case on the database `url`; what it finds wrong is in `case.problems`."""
    folder.mkdir(parents=True)
    started: list[Fork] = []
    notes = folder / "notes"

    def worker(failpoints: str = "") -> Fork:
        made = forks.start(url=url, failpoints=failpoints, notes=str(notes), log=str(folder / f"log{len(started)}"))
        started.append(made)
        return made

    try:
        with (
            psycopg.connect(url, autocommit=True) as db,
            flowgen.connect(url, app=journey.app) as client,
        ):
            db.execute(AUDIT)
            run = client.start(journey.journey, 7)
            _go(case, db, worker)
            _judge(case, client, db, run, started)
            case.bodies = Counter(notes.read_text().split()) if notes.exists() else Counter()
    except Exception as error:
        case.problems.append(f"{type(error).__name__}: {error}")
    finally:
        for fork in started:
            fork.kill()
    if case.problems:
        case.problems += [f"{fork.log.name}: {fork.log.read_text()[-1500:]}" for fork in started]
    return case


def _go(case: Case, db: Any, worker: Any) -> None:
    """Let each worker come to its failpoint; a last one, with none, is there when nobody else is left."""
    left: list[Fork] = []
    for armed, (point, action) in zip(case.workers, case.points, strict=True):
        fork = worker(armed)
        eventually(lambda fork=fork, point=point: fork.fired(point), PATIENCE)
        if action == "kill":
            case.check(fork.ended() == -signal.SIGKILL, f"{point} did not kill: {fork.code}")
        else:
            left.append(fork)
    if case.points[-1][1] in ("kill", "stop"):
        _registered(db, worker())
        return

    def over() -> bool:
        (status,) = db.execute("SELECT status FROM flowgen.run WHERE name = 'journey'").fetchone()
        return status >= 7 or not any(fork.alive for fork in left)

    eventually(over, PATIENCE)
    if not any(fork.alive for fork in left):  # it stopped, or a trouble that no agent expects ended it
        _registered(db, worker())


def _registered(db: Any, fork: Fork) -> None:
    """Until a worker is there: one that is told to stop before has no handler of signals yet."""
    eventually(lambda: db.execute("SELECT 1 FROM flowgen.worker WHERE pid = %s", (fork.pid,)).fetchone(), PATIENCE)


def _judge(case: Case, client: Any, db: Any, run: Any, started: list[Fork]) -> None:
    result = run.result(timeout=PATIENCE)
    case.check(journey.fits(7, result), f"the result is {result}")
    for fork in started:
        if fork.alive:
            eventually(lambda fork=fork: "lease is over" in fork.log.read_text() or not _is_stopped(fork.pid), PATIENCE)
            fork.kill(signal.SIGTERM)
    for fork in started:
        if fork.code is None:
            case.check(fork.ended() == 0, f"{fork.log.name} ended with {fork.code}")
    _judge_rows(case, db)
    for run_id, name in db.execute(
        "SELECT run_id, name FROM flowgen.run WHERE name IN ('journey', 'child')"
    ).fetchall():
        replayed = replay(journey.app.definition(name), client.trace(run_id))
        stored = client.get(run_id).result()
        case.check(replayed == stored, f"{name} replays to {replayed}, {stored} is stored")


def _judge_rows(case: Case, db: Any) -> None:
    audit = Counter(what for (what,) in db.execute("SELECT what FROM audit").fetchall())
    case.check(audit["journey ended"] == 1, f"the run ended {audit['journey ended']} times")
    case.check(not any(what.startswith("entry ") or "left" in what for what in audit), f"what may not change: {audit}")
    runs = Counter(name for (name,) in db.execute("SELECT name FROM flowgen.run").fetchall())
    case.check(runs["child"] == 1, f"{runs['child']} children")
    (ledger,) = db.execute("SELECT count(*) FROM ledger").fetchone()
    case.check(ledger == 1, f"the Transaction took effect {ledger} times")
    twice = db.execute(
        "SELECT key, count(*) FROM flowgen.entry WHERE kind = 1 GROUP BY run_id, key HAVING count(*) > 1"
    ).fetchall()
    case.check(not twice, f"more than one outcome: {twice}")
    early = db.execute(
        "SELECT o.key, o.recorded_at, a.due_at FROM flowgen.entry a JOIN flowgen.entry o USING (run_id, key)"
        " WHERE a.kind = 4 AND o.kind = 1 AND a.fingerprint LIKE 'sleep:%' AND o.recorded_at < a.due_at"
    ).fetchall()
    case.check(not early, f"woken early: {early}")
    armed = db.execute("SELECT count(*) FROM flowgen.entry WHERE kind = 4 AND key = 'sleep'").fetchone()
    case.check(armed == (1,), f"the sleep was armed {armed} times")
    ticks = db.execute(
        "SELECT trigger ->> 'scheduled_at', count(*) FROM flowgen.run WHERE name = 'tick'"
        " GROUP BY 1 HAVING count(*) > 1"
    ).fetchall()
    case.check(not ticks, f"ticks that started more than one run: {ticks}")
    (left,) = db.execute("SELECT count(*) FROM flowgen.schedule WHERE origin = 'dynamic'").fetchone()
    case.check(left == 0, "the schedule that was removed is there")
    # A tick that a worker had when it was killed is its until its lease ends.
    (owned,) = db.execute("SELECT count(*) FROM flowgen.run WHERE owner IS NOT NULL AND name <> 'tick'").fetchone()
    case.check(owned == 0, f"{owned} runs are owned although they have ended")


def _is_stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False
