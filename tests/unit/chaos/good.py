"""Evidence of a faultless engine, which the tests of the checker spoil."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from tests.chaos import witness
from tests.chaos.evidence import EntryRow, Evidence, Kill, RunChange, RunRow, Session, Tick, Write

INTERRUPTED = json.dumps({"type": "StepInterrupted", "message": "interrupted"})


def line(event: str, run: str, key: str, t: float, who: str = "w1", **facts: Any) -> dict[str, Any]:
    return {"e": event, "who": who, "t": t, "run": run, "key": key, "seg": 0, "attempt": 1, **facts}


def called(run: str, key: str, value: Any, t: float, **facts: Any) -> list[dict[str, Any]]:
    """What is told of a call that went well and whose value a handler was sent."""
    found = witness.of_value(value)
    return [
        line("enter", run, key, t, **facts),
        line("exit", run, key, t + 0.1, value=found),
        line("sent", run, key, t + 0.2, value=found),
    ]


def life(run: str, *changes: tuple[float, int, int | None, str | None], **facts: Any) -> list[RunChange]:
    """What the audit saw of a run: time, transaction, status, owner of each change."""
    found: list[RunChange] = []
    before: int | None = None
    owned: str | None = None
    for at, tx, status, owner in changes:
        found.append(RunChange(at, tx, "w1", run, before, status or 0, owned, owner, **facts))
        before, owned = status, owner
    return found


def good() -> Evidence:
    """Four starts (one unknown that is not there), two children, a poison run and a tick: a faultless engine's."""
    return Evidence(
        starts=[
            {"n": 1, "name": "linear", "said": "ok", "run": "r1"},
            {"n": 2, "name": "books", "said": "ok", "run": "r2"},
            {"n": 3, "name": "once", "said": "unknown"},
            {"n": 4, "name": "nap", "said": "failed"},
            {"n": 7, "name": "poison", "said": "ok", "run": "p1"},
        ],
        runs=[
            RunRow("r1", None, "nap", 7, {"n": 1}, 1),
            RunRow("r2", None, "far", 7, {"n": 2}, 5),
            RunRow("r3", None, "once", 7, {"n": 3}, once_output(3)),
            RunRow("t1", None, "tick", 7, {"n": 9}, 9, trigger=cron("s", 1000)),
            RunRow("k1", None, "double", 7, {"n": 1, "times": 2}, 2, parent="r1", parent_key="double"),
            RunRow("p1", None, "poison", 8, {"n": 7}, error={"type": "PoisonRun"}, recoveries=5),
        ],
        entries=[
            EntryRow("r1", 1, 1, "add", 1, 1, "1", at=10.15),
            EntryRow("r1", 2, 4, "sleep", at=10.2, due=10.7),
            EntryRow("r1", 3, 1, "sleep", 1, None, "null", at=10.71),
            EntryRow("r1", 4, 5, "double", value='"k1"', at=10.8),
            EntryRow("r1", 5, 1, "double", 1, None, "2", at=10.9),
            EntryRow("r2", 1, 1, "book", 1, 1, "5", at=11.15),
            EntryRow("r3", 1, 3, "one", attempt=1, at=11.9),
            EntryRow("r3", 2, 1, "one", 2, 1, INTERRUPTED, at=14.0),
        ],
        ledger={("r2", "book", 0): 1},
        run_changes=[
            *life("r1", (9.0, 1, 0, None), (9.5, 2, 3, "s1")),
            RunChange(10.2, 4, "w1", "r1", 3, 4, "s1", None, due=10.7),
            *life("r1", (10.3, 5, 0, None), (10.4, 6, 3, "s1"), (10.95, 7, 7, None))[1:],
            *life("r2", (10.0, 8, 0, None), (10.9, 9, 3, "s1"), (11.5, 10, 7, None)),
            *life("r3", (11.0, 11, 0, None), (11.8, 12, 3, "s1")),
            RunChange(13.2, 13, "w2", "r3", 3, 0, "s1", None, recoveries=1),
            *life("r3", (13.2, 13, 0, None), (13.5, 14, 3, "s2"), (14.5, 15, 7, None))[1:],
            *life("t1", (11.0, 16, 0, None), (11.1, 17, 3, "s1"), (11.2, 18, 7, None)),
            *life("k1", (10.8, 19, 3, "s1"), (10.85, 20, 7, None)),
            *life("p1", (19.0, 21, 0, None), (20.0, 22, 3, "s2"), (20.1, 23, 8, None)),
        ],
        writes=[
            Write(10.15, 3, "w1", ("r1",), (1,)),
            Write(10.2, 4, "w1", ("r1",), (2,)),
            Write(11.15, 30, "w1", ("r2",), (1,)),
            Write(14.0, 31, "w2", ("r3",), (2,)),
        ],
        sessions={
            "s1": Session("s1", "w1", 0.0, dead=13.05, dead_by="w2", quiet=13.1),
            "s2": Session("s2", "w2", 1.0),
        },
        ticks=[
            Tick(11.0, 16, "tick", "s", "dynamic", 1000.0, 1001.0),
            Tick(12.0, 40, "tick", "s", "dynamic", 1001.0, None),
        ],
        lines=[
            *called("r1", "add", 1, 10.0),
            {"e": "nap", "who": "w1", "t": 10.2, "run": "r1", "key": "sleep", "seg": 0, "seconds": 0.5},
            line("sent", "r1", "sleep", 10.72, value=witness.of_value(None)),
            *called("r2", "book", 5, 11.0, tx=True),
            line("enter", "r3", "one", 12.0, once=True),
            line("sent", "r3", "one", 14.0, "w2", value=witness.of_stored(2, INTERRUPTED)),
            *(line("die", "p1", "die", 15.0 + place, f"d{place}") for place in range(5)),
            {"e": "log", "who": "w1", "t": 12.0, "level": "WARNING", "name": "flowgen.worker", "text": KNOWN},
        ],
        kills=[Kill(13.0, "w1")],
        left={"runs that are owned": 0, "connections": 0},
        storage={"invalid indexes": 0, "pg_amcheck": "left out"},
        logs=["2026-01-01 WARNING flowgen.worker: something"],
        shift=989.0,
        secret="s3cret",
        lease=2.0,
        heartbeat=0.5,
        poll=0.25,
    )


OVER = "this worker's lease is over (session 0)"
KNOWN = "the database does not answer as it should (gone); trying again"


def cron(name: str, at: int) -> dict[str, Any]:
    return {"kind": "cron", "name": name, "scheduled_at": datetime.fromtimestamp(at, UTC).isoformat()}


def once_output(n: int) -> dict[str, Any]:
    return {"one": "interrupted", "two": 2 * n, "flaky": 3 * n, "gathered": [n, -n]}
