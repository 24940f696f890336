"""The checker can fail: good evidence passes, and each seeded violation is named by its invariant."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from tests.chaos import checker, witness
from tests.chaos.evidence import Change, EntryRow, Evidence, Kill, RunRow, ScheduleRow

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


def good() -> Evidence:
    """Three starts (one unknown that is not there), and what a faultless engine leaves of them."""
    return Evidence(
        starts=[
            {"n": 1, "name": "linear", "said": "ok", "run": "r1"},
            {"n": 2, "name": "books", "said": "ok", "run": "r2"},
            {"n": 3, "name": "once", "said": "unknown"},
            {"n": 4, "name": "nap", "said": "failed"},
        ],
        runs=[
            RunRow("r1", None, "nap", 7, {"n": 1}, 1),
            RunRow("r2", None, "far", 7, {"n": 2}, 5),
            RunRow("r3", None, "once", 7, {"n": 3}, once_output(3)),
            RunRow("t1", None, "tick", 7, {"n": 9}, 9, trigger={"name": "s", "scheduled_at": "1"}),
        ],
        entries=[
            EntryRow("r1", 1, 1, "add", 1, 1, "1"),
            EntryRow("r2", 1, 1, "book", 1, 1, "5"),
            EntryRow("r3", 1, 3, "one", attempt=1),
            EntryRow("r3", 2, 1, "one", 2, 1, INTERRUPTED),
        ],
        ledger={("r2", "book", 0): 1},
        changes=[Change("run status", run, 3, 7) for run in ("r1", "r2", "r3", "t1")],
        lines=[
            *called("r1", "add", 1, 10.0),
            *called("r2", "book", 5, 11.0, tx=True),
            line("enter", "r3", "one", 12.0, once=True),
            line("sent", "r3", "one", 14.0, "w2", value=witness.of_stored(2, INTERRUPTED)),
        ],
        kills=[Kill(13.0, "w1")],
    )


def once_output(n: int) -> dict[str, Any]:
    return {"one": "interrupted", "two": 2 * n, "flaky": 3 * n, "gathered": [n, -n]}


def changed(rows: list[Any], place: int, **facts: Any) -> None:
    rows[place] = attrs.evolve(rows[place], **facts)


def test_faultless_evidence_passes() -> None:
    found = checker.check(good())
    assert {name: each for name, each in found.items() if each} == {}
    assert set(found) == {"I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I10"}


def lose(evidence: Evidence) -> None:
    evidence.runs.pop(0)


def double(evidence: Evidence) -> None:
    evidence.runs.append(attrs.evolve(evidence.runs[0], run="r1-again"))


def refuse(evidence: Evidence) -> None:
    evidence.runs.append(RunRow("r4", None, "nap", 7, {"n": 4}, 4))


def strand(evidence: Evidence) -> None:
    changed(evidence.runs, 0, status=3)


def revive(evidence: Evidence) -> None:
    evidence.changes.append(Change("run status", "r1", 7, 0))


def end_twice(evidence: Evidence) -> None:
    evidence.changes.append(Change("run status", "r1", 3, 7))


def delete(evidence: Evidence) -> None:
    evidence.changes.append(Change("run delete", "r1", 7))


def miscount(evidence: Evidence) -> None:
    changed(evidence.runs, 0, output=2)


def fail(evidence: Evidence) -> None:
    changed(evidence.runs, 0, status=8, error={"type": "DatabaseError", "message": "connection lost"})


def cancel(evidence: Evidence) -> None:
    changed(evidence.runs, 0, status=9, output=None)


def update(evidence: Evidence) -> None:
    evidence.changes.append(Change("entry update", "r1", 1))


def record_twice(evidence: Evidence) -> None:
    evidence.entries.append(EntryRow("r1", 2, 1, "add", 1, 1, "1"))


def send_its_own(evidence: Evidence) -> None:
    evidence.lines.append(line("sent", "r1", "add", 20.0, "w2", value=witness.of_value(2)))


def send_what_is_not_stored(evidence: Evidence) -> None:
    evidence.entries.pop(0)


def store_another(evidence: Evidence) -> None:
    changed(evidence.entries, 0, value="1.0")


def book_twice(evidence: Evidence) -> None:
    evidence.ledger["r2", "book", 0] = 2


def book_without_outcome(evidence: Evidence) -> None:
    evidence.ledger["r2", "book#2", 0] = 1


def forget_the_effect(evidence: Evidence) -> None:
    evidence.ledger.clear()


def invent(evidence: Evidence) -> None:
    evidence.lines[:] = [each for each in evidence.lines if each["run"] != "r1"]


def call_again(evidence: Evidence) -> None:
    evidence.lines += [line("enter", "r1", "add", 30.0, "w3"), line("enter", "r1", "add", 31.0, "w4")]


def call_once_twice(evidence: Evidence) -> None:
    evidence.lines.append(line("enter", "r3", "one", 15.0, "w2", once=True))


def interrupt_nothing(evidence: Evidence) -> None:
    evidence.kills.clear()


def tick_twice(evidence: Evidence) -> None:
    evidence.runs.append(attrs.evolve(evidence.runs[3], run="t2"))
    evidence.changes.append(Change("run status", "t2", 3, 7))


def leave_a_schedule(evidence: Evidence) -> None:
    evidence.schedules.append(ScheduleRow("tick", "every second 9", "dynamic"))


SEEDED = [
    ("I1", lose), ("I1", double), ("I1", refuse), ("I2", strand), ("I2", revive), ("I2", end_twice), ("I2", delete),
    ("I3", miscount), ("I3", fail), ("I3", cancel), ("I4", update), ("I4", record_twice), ("I5", send_its_own),
    ("I5", send_what_is_not_stored), ("I5", store_another), ("I6", book_twice), ("I6", book_without_outcome),
    ("I6", forget_the_effect), ("I7", invent), ("I7", call_again), ("I8", call_once_twice), ("I8", interrupt_nothing),
    ("I10", tick_twice), ("I10", leave_a_schedule),
]  # fmt: skip


@pytest.mark.parametrize(("invariant", "seed"), SEEDED, ids=[seed.__name__ for _, seed in SEEDED])
def test_a_seeded_violation_is_found(invariant: str, seed: Callable[[Evidence], None]) -> None:
    evidence = good()
    seed(evidence)
    found = checker.check(evidence)
    assert found[invariant], found
    assert all(each.invariant == invariant for each in found[invariant])


def test_a_call_that_comes_again_is_explained_by_a_kill_or_a_lost_lease() -> None:
    for explained in (
        Kill(30.5, "w3"),
        {"e": "log", "who": "w3", "t": 30.5, "level": "WARNING", "text": "this worker's lease is over (session x)"},
    ):
        evidence = good()
        evidence.lines += [line("enter", "r9", "add", 30.0, "w3"), line("enter", "r9", "add", 31.0, "w4")]
        if isinstance(explained, Kill):
            evidence.kills.append(explained)
        else:
            evidence.lines.append(explained)
        assert checker.check(evidence)["I7"] == []


def test_only_a_transaction_may_come_again_because_the_server_was_killed() -> None:
    for tx, explained in ((True, True), (False, False)):
        evidence = good()
        facts = {"tx": True} if tx else {}
        evidence.lines += [line("enter", "r9", "book", t, "w3", **facts) for t in (30.0, 31.0)]
        evidence.kills.append(Kill(30.5, None))
        assert (checker.check(evidence)["I7"] == []) is explained


def test_segments_part_the_calls_of_a_loop() -> None:
    evidence = good()
    evidence.entries += [
        EntryRow("r1", 2, 6, "checkpoint", value="[1, 1, {}]"),
        EntryRow("r1", 3, 1, "add", 1, 1, "4"),
    ]
    evidence.lines += [{**each, "seg": 1} for each in called("r1", "add", 4, 15.0)]
    found = checker.check(evidence)
    assert found["I4"] == found["I5"] == found["I7"] == []


def test_an_outcome_that_was_set_aside_answers_no_longer() -> None:
    evidence = good()
    evidence.entries += [
        EntryRow("r1", 2, 7, "", value='{"indexes": [1]}'),
        EntryRow("r1", 3, 1, "add", 1, 1, "1"),
    ]
    assert checker.check(evidence)["I4"] == []
