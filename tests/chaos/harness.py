"""One run of the harness: a server, workers, a client and a monkey; then quiet, a drain, and the evidence.

Everything stands in one folder: plan.json (written first), witness.jsonl, said.jsonl, faults.jsonl and the logs. A
fault comes after a number of witness lines, or when there were too few for too long; faults overlap the restarts of
others.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import psycopg

import flowgen
from flowgen.postgres import embedded
from flowgen.postgres.migrate import migrate_url
from tests.chaos import audit, checker, witness
from tests.chaos.bodies import app
from tests.chaos.checker import Violation
from tests.chaos.evidence import Evidence, Kill
from tests.chaos.fleet import Fleet, launch
from tests.chaos.plan import Fault, Plan, share
from tests.chaos.store import Store

QUIET = 12.0
"""The longest that a run of the workload waits for anything but a lease."""


@attrs.define(kw_only=True)
class Outcome:
    """What a run of the harness came to."""

    plan: Plan
    seconds: float
    evidence: Evidence
    violations: dict[str, list[Violation]]
    faults: list[dict[str, Any]]
    died: list[dict[str, Any]]
    late: list[str]
    drained: bool
    drain_seconds: float
    stuck: str = ""


class Harness:
    """Carries out one plan."""

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        *,
        plain: int = 3,
        supervised: int = 1,
        minutes: float = 30,
        say: Callable[[str], None] = print,
    ) -> None:
        self.folder = folder
        self.plan = plan
        self.say = say
        self.faults: list[dict[str, Any]] = []
        self._limit = minutes * 60
        self._units = (plain, supervised)
        self._restart: threading.Thread | None = None
        self._kills: list[Kill] = []

    def run(self) -> Outcome:
        """Carry out the plan and judge what it left. Everything is stopped when this returns."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.plan.save(self.folder / "plan.json")
        self.say(f"plan {self.plan.hash} (seed {self.plan.seed}): {self.folder / 'plan.json'}")
        self._server = self.folder / "server"
        self.url = embedded.ensure(self._server, idle=0)
        migrate_url(self.url, "flowgen")
        self.store = Store(self.url)
        self.store.set_up()
        self.fleet = Fleet(self.folder, self.url, self.plan.lease, *self._units)
        try:
            return self._carried_out()
        finally:
            self.fleet.abandon()
            self.store.close()
            if self._restart is not None:
                self._restart.join()
            embedded.stop(self._server, "immediate")
            (self.folder / "server.log").write_text(embedded.server_log(self._server, limit=1 << 24), encoding="utf-8")
            embedded.reset(self._server)

    def _carried_out(self) -> Outcome:
        began = time.monotonic()
        client = launch(
            "tests.chaos.client",
            self.url,
            str(self.folder / "plan.json"),
            str(self.folder / "said.jsonl"),
            log=self.folder / "client.log",
        )
        try:
            self._attack(began)
            self._await_client(client, began)
        finally:
            client.kill()
            client.wait()
        quiet_at = time.monotonic()
        drained, stuck = self._drain(began)
        drain_seconds = time.monotonic() - quiet_at
        self._tend_until(time.monotonic() + 1.0)
        late = self.fleet.stop(45)
        evidence = self._evidence()
        self._keep(evidence)
        violations = checker.check(evidence)
        with flowgen.connect(self.url, app=app) as looking:
            violations["I18"] = list(audit.audit(looking, evidence.runs))
        return Outcome(
            plan=self.plan,
            seconds=time.monotonic() - began,
            evidence=evidence,
            violations=violations,
            faults=self.faults,
            died=self.fleet.died,
            late=late,
            drained=drained,
            drain_seconds=drain_seconds,
            stuck=stuck,
        )

    # faults

    def _attack(self, began: float) -> None:
        self._tend_until(time.monotonic() + 20, lambda: len(self.fleet.workers()) >= sum(self._units))
        for place, fault in enumerate(self.plan.faults):
            lines, at = self.fleet.lines, time.monotonic()
            while time.monotonic() < at + fault.within and self.fleet.lines < lines + fault.after:
                self._tend_until(time.monotonic() + 0.02)
            anchored = self.fleet.lines >= lines + fault.after
            self._strike(fault, "progress" if anchored else "time")
            if place % 10 == 9 or place + 1 == len(self.plan.faults):
                self._progress(place + 1, began)
            if time.monotonic() - began > self._limit:
                self.say("the time is over: the rest of the plan is left out")
                return

    def _strike(self, fault: Fault, anchor: str) -> None:
        self.fleet.tend()
        if fault.action == "postgres":
            self._kill_server(fault.down)
            self._note("postgres", None, None, anchor)
        elif fault.action == "supervisor":
            unit = self.fleet.kill_supervisor(fault.down)
            self._note("supervisor", None, unit.name if unit else None, anchor)
        for pick in fault.picks:
            living = self.fleet.workers()
            if not living:
                self._tend_until(time.monotonic() + 10, lambda: bool(self.fleet.workers()))
                living = self.fleet.workers()
            if living:
                who = share(pick, [worker.who for worker in living])
                worker = next(worker for worker in living if worker.who == who)
                self.fleet.kill(worker, fault.down)
                self._note("worker", who, worker.unit.name, anchor)

    def _kill_server(self, down: float) -> None:
        if self._restart is not None:
            self._restart.join()
        pid = embedded.status(self._server).pid
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

        def restart() -> None:
            threading.Event().wait(down)
            embedded.ensure(self._server, idle=0)

        self._restart = threading.Thread(target=restart)
        self._restart.start()

    def _note(self, action: str, who: str | None, unit: str | None, anchor: str) -> None:
        t = time.monotonic()
        fault = {"t": t, "action": action, "who": who, "unit": unit, "anchor": anchor, "line": self.fleet.lines}
        self.faults.append(fault)
        with (self.folder / "faults.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(fault) + "\n")
        if action in ("worker", "postgres"):
            self._kills.append(Kill(t, who))

    def _tend_until(self, until: float, fact: Callable[[], bool] = lambda: False) -> None:
        never = threading.Event()
        while time.monotonic() < until and not fact():
            self.fleet.tend()
            never.wait(0.02)

    # the end

    def _await_client(self, client: subprocess.Popen[bytes], began: float) -> None:
        self._tend_until(began + self._limit, lambda: client.poll() is not None)

    def _drain(self, began: float) -> tuple[bool, str]:
        """Wait until every run has ended; give up when nothing has moved for three leases and the longest wait."""
        if self._restart is not None:
            self._restart.join()
        patience = 3 * (self.plan.lease + 1.0) + QUIET
        last, moved = -1, time.monotonic()
        while time.monotonic() - began < self._limit + 120:
            self._tend_until(time.monotonic() + 0.3)
            try:
                left = sum(count for status, count in self.store.statuses().items() if status < 7)
                progress = self.store.progress()
            except psycopg.Error:
                continue
            if not left:
                return True, ""
            if progress != last:
                last, moved = progress, time.monotonic()
            elif time.monotonic() - moved > patience:
                break
        return False, self.store.waiting()

    def _progress(self, place: int, began: float) -> None:
        try:
            found = self.store.statuses()
        except psycopg.Error:
            found = {}
        ended = sum(count for status, count in found.items() if status >= 7)
        kills = sum(fault["action"] == "worker" for fault in self.faults)
        servers = sum(fault["action"] == "postgres" for fault in self.faults)
        self.say(
            f"{time.monotonic() - began:6.1f} s  fault {place}/{len(self.plan.faults)}: {kills} workers and {servers}"
            f" servers killed; {ended} of {sum(found.values())} runs have ended; {self.fleet.lines} lines;"
            f" {len(self.fleet.died)} died by themselves"
        )

    def _keep(self, evidence: Evidence) -> None:
        """The rows, for whoever looks at a violation later."""
        for name, rows in (("runs", evidence.runs), ("entries", evidence.entries)):
            with (self.folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(attrs.asdict(row)) + "\n" for row in rows)

    def _evidence(self) -> Evidence:
        store = self.store
        return Evidence(
            starts=list(witness.lines(self.folder / "said.jsonl")),
            runs=store.runs(),
            entries=store.entries(),
            ledger=store.ledger(),
            changes=store.changes(),
            schedules=store.schedules(),
            lines=list(witness.lines(self.fleet.spoken)),
            lease=self.plan.lease,
            kills=self._kills + [Kill(dead["t"], dead["who"]) for dead in self.fleet.died if dead["who"]],
        )
