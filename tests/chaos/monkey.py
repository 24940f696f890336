"""Carries out the faults of a plan, and writes down what was done to whom, when and for how long."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

from tests.chaos.evidence import Kill, Span
from tests.chaos.fleet import Fleet, Unit, Worker
from tests.chaos.plan import Fault, share
from tests.chaos.server import Server
from tests.chaos.store import Store
from tests.proxy import Loss, Proxy

GRACE = 20.0
"""Seconds that a unit may take to stop in order."""


LEFT = 2
"""Workers that have to live before one of them is killed or stopped."""


CLIENTS = "INSERT INTO"
"""In the statements of a client whose answer is lost."""


class Monkey:
    """One fault after the other."""

    def __init__(self, folder: Path, fleet: Fleet, server: Server, store: Store, proxies: list[Proxy]) -> None:
        """`proxies`: of the units that have one; the last is the client's."""
        self._folder = folder
        self._fleet = fleet
        self._server = server
        self._store = store
        self._proxies = proxies
        self.faults: list[dict[str, Any]] = []
        self.kills: list[Kill] = []
        self.spans: list[Span] = []
        self.stops: list[dict[str, Any]] = []
        self.losses: list[Loss] = []
        """Answers that are to be lost, or were."""
        self._noticed: set[int] = set()
        self._holes: list[tuple[float, float, Unit, list[str]]] = []

    def tend(self, until: float, fact: Callable[[], bool] = lambda: False) -> None:
        """Look after the fleet until then, or until something is so."""
        never = threading.Event()
        while time.monotonic() < until and not fact():
            self._fleet.tend()
            self._reopen(time.monotonic())
            self._look_for_losses()
            never.wait(0.02)

    def await_anchor(self, fault: Fault) -> str:
        """Until the fault is due; by what: progress or time."""
        fleet = self._fleet
        lines, at = fleet.lines, time.monotonic()
        while time.monotonic() < at + fault.within and fleet.lines < lines + fault.after:
            self.tend(time.monotonic() + 0.02)
        return "progress" if fleet.lines >= lines + fault.after else "time"

    def strike(self, fault: Fault, anchor: str) -> None:
        self._fleet.tend()
        match fault.action:
            case "postgres":
                self.kills.append(Kill(self._server.kill(fault.down), None))
                self._note(fault, anchor)
            case "backend" | "terminate":
                self._hit_backend(fault, anchor)
            case "supervisor":
                unit = self._fleet.kill_supervisor(fault.down)
                self._note(fault, anchor, unit=unit)
            case "workers":
                for pick in fault.picks:
                    worker = self._one(pick)
                    if worker is not None:
                        self.kills.append(Kill(time.monotonic(), worker.who))  # before: others see it at once
                        self._fleet.kill(worker, fault.down)
                        self._note(fault, anchor, worker.who, worker.unit)
            case "stop":
                worker = self._one(fault.picks[0])
                if worker is not None:
                    self._fleet.stop_for(worker, fault.down)
                    now = time.monotonic()
                    self.spans.append(Span("stop", now, now + fault.down + 0.5, worker.who))
                    self._note(fault, anchor, worker.who, worker.unit)
            case "rolling":
                self._roll(fault, anchor)
            case _:
                self._spoil_network(fault, anchor)

    def _one(self, pick: float) -> Worker | None:
        """The worker that a pick means. Somebody is to be left: for that it is waited for a while."""
        living = self._fleet.workers()
        if len(living) < LEFT:
            self.tend(time.monotonic() + 3, lambda: len(self._fleet.workers()) >= LEFT)
            living = self._fleet.workers()
        if not living:
            return None
        who = share(pick, [worker.who for worker in living])
        return next(worker for worker in living if worker.who == who)

    def _hit_backend(self, fault: Fault, anchor: str) -> None:
        found: list[tuple[int, str]] = []

        def look() -> bool:
            """Whether there is one: after a kill of the server or of all workers it takes them a while."""
            try:
                found[:] = [each for each in self._store.backends() if fault.arg in each[1]]
            except psycopg.Error:
                found.clear()
            return bool(found)

        self._server.await_back()
        self.tend(time.monotonic() + GRACE, look)
        if not found:
            return
        place = min(int(fault.picks[0] * len(found)), len(found) - 1)
        pid, name = found[place]
        if fault.action == "backend":
            self.kills.append(Kill(self._server.kill_backend(pid), None))
        else:
            before = time.monotonic()
            self._store.terminate(pid)
            self.spans.append(Span("terminate", before - 0.2, time.monotonic() + 1.0))
        self._note(fault, anchor, what=name)

    # network

    def _spoil_network(self, fault: Fault, anchor: str) -> None:
        units = [unit for unit in self._fleet.units if unit.proxy is not None]
        now = time.monotonic()
        if fault.action == "ack":
            place = int(fault.picks[0] * len(self._proxies))
            proxy = self._proxies[place]
            pattern = CLIENTS if proxy is self._proxies[-1] else fault.arg
            self.losses.append(proxy.lose_next_ack(pattern))
            self._note(fault, anchor, what=pattern)
            return
        if not units:
            return
        unit = units[int(fault.picks[0] * len(units))]
        assert unit.proxy is not None
        whos = self._fleet.whos(unit)
        if fault.action == "reset":
            unit.proxy.reset()
            self.spans += [Span("reset", now - 0.1, now + 1.0, who) for who in whos]
        else:
            unit.proxy.blackhole()
            self._holes.append((now, now + fault.down, unit, whos))
        self._note(fault, anchor, unit=unit)

    def _reopen(self, now: float) -> None:
        for hole in list(self._holes):
            since, until, unit, whos = hole
            if now >= until:
                self._holes.remove(hole)
                if not any(other[2] is unit for other in self._holes):
                    assert unit.proxy is not None
                    unit.proxy.pass_through()
                every = {*whos, *self._fleet.whos(unit)}
                self.spans += [Span("blackhole", since, now + 1.0, who) for who in every]

    def _look_for_losses(self) -> None:
        """When an answer was lost, which may be some time after it was asked for."""
        for place, loss in enumerate(self.losses):
            if place not in self._noticed and loss.happened.is_set():
                self._noticed.add(place)
                self.spans.append(Span("ack", loss.at - 1.0, loss.at + 1.5))

    # rolling restart

    def _roll(self, fault: Fault, anchor: str) -> None:
        """SIGTERM to one unit after the other; each comes back with the other version of the code."""
        self._note(fault, anchor)
        for unit in self._fleet.units:
            self.tend(
                time.monotonic() + GRACE, lambda unit=unit: unit.process is not None and bool(self._fleet.whos(unit))
            )
            if unit.process is None:
                continue
            process, since = unit.process, time.monotonic()
            whos = self._fleet.whos(unit)
            self._fleet.terminate(unit)
            self.tend(since + GRACE, lambda process=process: process.poll() is not None)
            took = time.monotonic() - since
            self.stops.append({"unit": unit.name, "t": since, "seconds": took, "code": process.poll(), "whos": whos})
            if process.poll() is None:
                process.kill()
                process.wait()
            self.spans += [Span("term", since, since + took, who) for who in whos]
            self._fleet.again(unit, 3 - unit.code)
            self.tend(time.monotonic() + GRACE, lambda unit=unit: bool(self._fleet.whos(unit)))

    # the end

    def end(self) -> None:
        """Every fault is over."""
        self._server.await_back()
        for pid in list(self._fleet.stopped):
            self._fleet.go_on(pid)
        for _, _, unit, _ in list(self._holes):
            assert unit.proxy is not None
            unit.proxy.pass_through()
        self._holes = [(since, 0.0, unit, whos) for since, _, unit, whos in self._holes]
        self._reopen(time.monotonic())
        self._look_for_losses()
        for proxy in self._proxies:
            proxy._losses.clear()

    def counts(self) -> Counter[str]:
        return Counter(fault["action"] for fault in self.faults)

    def _note(
        self, fault: Fault, anchor: str, who: str | None = None, unit: Unit | None = None, what: str = ""
    ) -> None:
        noted = {
            "t": time.monotonic(), "action": fault.action, "who": who, "unit": unit.name if unit else None,
            "anchor": anchor, "line": self._fleet.lines, "what": what, "down": fault.down,
        }  # fmt: skip
        self.faults.append(noted)
        with (self._folder / "faults.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(noted) + "\n")
