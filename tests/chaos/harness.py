"""One run of the harness: a server, worker processes, a client, and faults after a plan; then the checker.

Everything that it needs is in one folder: plan, witness, logs of every process, faults, rows, report.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import psycopg

import flowgen
from tests.chaos import audit, checker, outside, witness
from tests.chaos.bodies import app
from tests.chaos.evidence import Evidence, Kill, Span, Violation
from tests.chaos.expected import LARGEST
from tests.chaos.fleet import Fleet, Unit, launch
from tests.chaos.monkey import Monkey
from tests.chaos.plan import Plan
from tests.chaos.server import Server
from tests.chaos.store import Store
from tests.proxy import Proxy

QUIET = 10.0
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
    server: str = ""
    checked_seconds: float = 0.0
    unknown: dict[str, int] = attrs.field(factory=dict)
    """Answers that were lost on the way, by statement."""

    @property
    def holds(self) -> bool:
        return self.drained and not self.died and not self.late and not any(self.violations.values())


class _Pulse:
    """Notices when this machine leaves its processes without time: what happens then is nobody's fault."""

    LATE = 0.5
    OURS = 2.0
    """Processes that want a processor, for each that there is, which are the harness's own."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self._loads: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="chaos-pulse", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        last = time.monotonic()
        while not self._over.wait(0.1):
            now = time.monotonic()
            self._loads.append(os.getloadavg()[0] / (os.cpu_count() or 1))
            if now - last > self.LATE:
                self.spans.append(Span("stall", last, now))
            last = now

    @property
    def pace(self) -> float:
        return max(1.0, sum(self._loads) / max(1, len(self._loads)) / self.OURS)

    def end(self) -> None:
        self._over.set()
        self._thread.join()


class Harness:
    """Carries out one plan."""

    def __init__(
        self,
        folder: Path,
        plan: Plan,
        *,
        plain: int = 3,
        supervised: int = 1,
        proxied: int = 1,
        minutes: float = 30,
        patience: float | None = None,
        drain: float = 120,
        bug: str = "",
        cache: int = 1000,
        prepare: Callable[[Store], None] = lambda store: None,
        say: Callable[[str], None] = print,
    ) -> None:
        """`proxied` of the plain units connect through a proxy. `prepare` may change the database before the start.

        After the last start and fault everything has to end within `drain` seconds; nothing may stand for `patience`.
        """
        self.folder = folder
        self.plan = plan
        self.say = say
        self._limit = minutes * 60
        self._patience = 3 * (plan.lease + plan.poll) + QUIET if patience is None else patience
        self._drain_limit = drain
        self._cache = cache
        self._shape = (plain, supervised, proxied)
        self._environ = {"CHAOS_BUG": bug} if bug else {}
        self._prepare = prepare

    def run(self) -> Outcome:
        """Carry out the plan and judge what it left. Everything is stopped when this returns."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in [*self.folder.glob("*.jsonl"), *self.folder.glob("*.log")]:
            left.unlink()  # they are appended to
        self.plan.save(self.folder / "plan.json")
        self.say(f"plan {self.plan.hash} (seed {self.plan.seed}): {self.folder / 'plan.json'}")
        server = Server(self.folder / "server")
        self._environ[outside.URL] = server.url
        with contextlib.ExitStack() as stack:
            stack.callback(server.end)
            store = Store(server.url)
            stack.callback(store.close)
            store.set_up()
            self._prepare(store)
            plain, supervised, proxied = self._shape
            proxies = [stack.enter_context(Proxy(server.workers_url, seed=place)) for place in range(proxied + 1)]
            units = [Unit(f"plain-{place}", 1, server.workers_url, code=1 + place % 2) for place in range(plain)]
            for unit, proxy in zip(units, proxies, strict=False):
                unit.proxy, unit.url = proxy, proxy.url(server.workers_url)
            units += [Unit(f"supervised-{place}", 2, server.workers_url) for place in range(supervised)]
            settings = {"lease": self.plan.lease, "heartbeat": self.plan.heartbeat, "poll": self.plan.poll}
            fleet = Fleet(self.folder, units, {**settings, "max_payload": LARGEST, "cache": self._cache}, self._environ)
            stack.callback(fleet.abandon)
            self._pulse = _Pulse()
            stack.callback(self._pulse.end)
            self._server, self._store, self._fleet = server, store, fleet
            self._monkey = Monkey(self.folder, fleet, server, store, proxies)
            return self._carried_out(proxies[-1].url(server.workers_url))

    def _carried_out(self, client_url: str) -> Outcome:
        self._monkey.tend(time.monotonic() + 30, lambda: len(self._fleet.workers()) >= self._fleet.size)
        began = time.monotonic()
        said = self.folder / "said.jsonl"
        client = launch(
            "tests.chaos.client", client_url, str(self.folder / "plan.json"), str(said),
            log=self.folder / "client.log", **self._environ,
        )  # fmt: skip
        try:
            self._monkey.tend(began + 15, said.exists)
            self._attack(began)
            self._monkey.tend(began + self._limit, lambda: client.poll() is not None)
        finally:
            client.kill()
            client.wait()
        self._monkey.end()
        quiet_at = time.monotonic()
        drained, stuck = self._drain(began)
        drain_seconds = time.monotonic() - quiet_at
        late = self._fleet.stop(45)
        checking = time.monotonic()
        evidence = self._evidence(quiet_at)
        self._keep(evidence)
        violations = checker.check(evidence)
        with flowgen.connect(self._server.url, app=app) as looking:
            violations["I18"] = list(audit.audit(looking.trace, evidence.runs, self.plan.seed))
        violations["I17"] += self._checksums()
        return Outcome(
            plan=self.plan,
            seconds=time.monotonic() - began,
            evidence=evidence,
            violations=dict(sorted(violations.items(), key=lambda found: int(found[0][1:]))),
            faults=self._monkey.faults,
            died=self._fleet.died,
            late=late,
            drained=drained,
            drain_seconds=drain_seconds,
            stuck=stuck,
            server=self._server.version,
            checked_seconds=time.monotonic() - checking,
            unknown=self._lost_answers(),
        )

    def _attack(self, began: float) -> None:
        for place, fault in enumerate(self.plan.faults):
            anchor = self._monkey.await_anchor(fault)
            self._monkey.strike(fault, anchor)
            if place % 20 == 19 or place + 1 == len(self.plan.faults):
                self._progress(place + 1, began)
            if time.monotonic() - began > self._limit:
                self.say("the time is over: the rest of the plan is left out")
                return

    # the end

    def _drain(self, began: float) -> tuple[bool, str]:
        """Wait until every run has ended; give up when nothing has moved for three leases and the longest wait."""
        last, moved = -1, time.monotonic()
        until = min(began + self._limit, moved) + self._drain_limit
        while time.monotonic() < until:
            self._monkey.tend(time.monotonic() + 0.2)
            try:
                self._store.pause_schedules()
                left, progress = self._store.unended(), self._store.progress()
            except psycopg.Error:
                continue
            if not left:
                self._monkey.tend(time.monotonic() + self._patience, self._all_buried)
                return True, ""
            if progress != last:
                last, moved = progress, time.monotonic()
            elif time.monotonic() - moved > self._patience:
                break
        self._fleet.show_stacks()
        return False, self._store.waiting()

    def _all_buried(self) -> bool:
        """Whether the sessions of all who were killed have been found to be over."""
        try:
            return self._store.sessions_alive() <= len(self._fleet.workers())
        except psycopg.Error:
            return False

    def _progress(self, place: int, began: float) -> None:
        try:
            ended, runs = self._store.counts()
        except psycopg.Error:
            ended, runs = 0, 0
        done = " ".join(f"{many} {action}," for action, many in sorted(self._monkey.counts().items()))
        self.say(
            f"{time.monotonic() - began:6.1f} s  fault {place}/{len(self.plan.faults)}: {done} {ended} of {runs} runs"
            f" have ended; {self._fleet.lines} lines; {len(self._fleet.died)} died by themselves"
        )

    def _evidence(self, quiet_at: float) -> Evidence:
        store, monkey = self._store, self._monkey
        self._settle()
        shift = store.shift()
        said = list(witness.lines(self.folder / "said.jsonl"))
        lines = list(witness.lines(self._fleet.spoken))
        stalls = [Span("stall", line["since"], line["t"], line["who"]) for line in lines if line["e"] == "stall"]
        return Evidence(
            starts=[each for each in said if each["kind"] not in ("cancel", "mend")],
            orders=[each for each in said if each["kind"] == "mend"],
            cancels=[each for each in said if each["kind"] == "cancel"],
            runs=store.runs(),
            entries=store.entries(shift),
            ledger=store.ledger(),
            changes=store.changes(),
            run_changes=store.run_changes(shift),
            writes=store.writes(shift),
            sessions=store.sessions(shift),
            ticks=store.ticks(shift),
            schedules=store.schedules(),
            lines=lines,
            kills=monkey.kills + [Kill(dead["t"], dead["who"]) for dead in self._fleet.died if dead["who"]],
            spans=[*monkey.spans, *self._server.spans, *self._pulse.spans, *stalls],
            stops=monkey.stops,
            left={**store.left(), "orphan processes": len(self._fleet.orphans())},
            storage=self._server.storage(),
            logs=self._fleet.logs(),
            shift=shift,
            secret=self._server.SECRET,
            lease=self.plan.lease,
            heartbeat=self.plan.heartbeat,
            poll=self.plan.poll,
            pace=self._pulse.pace,
            quiet_at=quiet_at,
        )

    def _settle(self) -> None:
        """Connections end a moment after their processes, and processes whose supervisor was killed by themselves."""
        until = time.monotonic() + 20
        while time.monotonic() < until and (self._store.left()["connections"] or self._fleet.orphans()):
            threading.Event().wait(0.05)

    def _checksums(self) -> list[Violation]:
        found = self._server.checksums()
        return [] if found == 0 or str(found).startswith("left out") else [Violation("I17", "", f"checksums: {found}")]

    def _lost_answers(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for loss in self._monkey.losses:
            if loss.happened.is_set():
                found[loss.pattern.pattern] = found.get(loss.pattern.pattern, 0) + 1
        return found

    def _keep(self, evidence: Evidence) -> None:
        """The rows, for whoever looks at a violation later."""
        for name in ("runs", "entries", "run_changes", "writes", "ticks", "spans"):
            with (self.folder / f"{name}.jsonl").open("w", encoding="utf-8") as file:
                for row in getattr(evidence, name):
                    file.write(json.dumps(attrs.asdict(row)) + "\n")
        text = json.dumps({id: attrs.asdict(session) for id, session in evidence.sessions.items()}, indent=1)
        (self.folder / "sessions.json").write_text(text, encoding="utf-8")
