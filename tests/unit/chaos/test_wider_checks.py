"""The invariants of branches, messages and passes can fail: good evidence passes, each seeded violation is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from tests.chaos import checker, expected
from tests.chaos.evidence import CHECKPOINT, Change, EntryRow, Evidence, Kill, RunChange, RunRow
from tests.unit.chaos.good import called, good, life, line

FAILS = next(n for n in range(1, 99) if expected.fails_in_the_end(n))
RETRIED = next(n for n in range(1, 99) if expected.verb_of(n) == "retry" and n != FAILS)


def ended(run: str, status: int = 7) -> list[RunChange]:
    return life(run, (49.0, 100, 0, None), (49.1, 101, 3, "s2"), (69.0, 102, status, None))


def row(run: str, name: str, given: dict[str, Any], output: Any, **facts: Any) -> RunRow:
    return RunRow(run, None, name, facts.pop("status", 7), given, output, **facts)


def outcomes(run: str, *keys: str, at: float = 52.0, value: str = "1") -> list[EntryRow]:
    return [EntryRow(run, place, 1, key, 1, 1, value, at=at + place) for place, key in enumerate(keys, start=1)]


def by_w2(run: str, key: str, value: Any, t: float, **facts: Any) -> list[dict[str, Any]]:
    return [{**each, "who": "w2"} for each in called(run, key, value, t, **facts)]


def of_branches() -> Evidence:
    """A race that a child lost, a graph with a node that was skipped, and a trip that failed."""
    evidence = good()
    evidence.starts += [{"n": n, "name": name, "said": "ok", "run": run} for n, name, run in (
        (20, "raced", "x1"), (FAILS, "trip", "x2"), (21, "woven", "x3"),
    )]  # fmt: skip
    evidence.starts = [start for start in evidence.starts if start["n"] != FAILS or start["name"] == "trip"]
    evidence.runs = [each for each in evidence.runs if each.input.get("n") != FAILS or each.name == "trip"]
    won = {"first": ["quick", 20], "after": 21, "second": ["book", 20]}
    woven = expected.woven(21).value
    evidence.runs += [
        row("x1", "raced", {"n": 20}, won),
        row("x1k", "double", {"n": 20, "times": 3}, None, status=9, parent="x1", parent_key="race/child/double"),
        row("x2", "trip", {"n": FAILS}, None, status=8, error={"type": "StepFailed"}),
        row("x3", "woven", {"n": 21}, woven),
    ]
    undone = ("saga/rail#undo", "gather/0/car", "gather/0/car#undo", "flight#undo", "hotel#undo")
    evidence.entries += [
        *outcomes("x1", "race/quick/add", "race#2/book/book"),
        *outcomes("x2", "hotel", "flight", "saga/rail", *undone),
        EntryRow("x3", 1, 1, "graph/right", 5, None, '"not chosen"', at=52.0),
    ]
    evidence.ledger |= {("x1", "race#2/book/book", 0): 1}
    for run, status in (("x1", 7), ("x1k", 9), ("x2", 8), ("x3", 7)):
        evidence.run_changes += ended(run, status)
    told = [
        *by_w2("x1", "race/quick/add", 1, 50.0),
        *by_w2("x1", "race#2/book/book", 1, 50.0, tx=True),
    ]
    evidence.lines += [each for each in told if each["e"] != "sent"]
    for key in ("hotel", "flight", "saga/rail", *(each for each in undone if each.endswith("#undo"))):
        evidence.lines += [each for each in by_w2("x2", key, 1, 50.0) if "#" not in key or each["e"] != "sent"]
    evidence.lines += [line("sent", "x1", "race", 53.5, "w2", value="v", whole=True)]
    evidence.lines += [line("enter", "x1k", "add", 50.5, "w2")]
    return evidence


def of_messages() -> Evidence:
    """A signal, an event with its trigger, a token, three passes, and a run whose steps were told ahead."""
    evidence = good()
    evidence.starts += [
        {"n": 30, "name": "hub", "said": "ok", "run": "m1"}, {"n": 31, "name": "rounds", "said": "ok", "run": "m2"},
        {"n": 32, "name": "ahead", "said": "ok", "run": "m3"},
        {"n": RETRIED, "name": "mended", "said": "ok", "run": "m4"},
    ]  # fmt: skip
    evidence.starts = [each for each in evidence.starts if each["n"] != RETRIED or each["name"] == "mended"]
    evidence.runs = [each for each in evidence.runs if each.input.get("n") != RETRIED]
    passes = expected.passes_of(31)
    evidence.runs += [
        row("m1", "hub", {"n": 30}, expected.hub(30).value),
        row("m1a", "listener", {"n": 30, "many": 2}, expected.chat(30).value),
        row("m1b", "reported", {"n": 30, "k": 0}, 30),
        row("m1c", "headline", {"n": 30, "k": 0}, 30),
        row("m2", "rounds", {"n": 31, "turn": passes - 1, "total": 0}, expected.rounds(31).value),
        row("m3", "ahead", {"n": 32}, expected.ahead(32).value),
        row("m4", "mended", {"n": RETRIED}, expected.mended(RETRIED).value),
    ]
    evidence.orders.append({"n": RETRIED, "run": "m4", "said": "ok", "kind": "mend"})
    evidence.entries += [
        *outcomes("m1", "emit0", value='"e"'),
        *(EntryRow("m2", 10 * place + 1, 1, "add", 1, 1, "1", at=52.0 + place) for place in range(passes)),
        *outcomes("m3", "add", "add#2", "add#3", "book", "add#4"),
    ]
    evidence.ledger["m3", "book", 0] = 1
    for run in ("m1", "m1a", "m1b", "m1c", "m2", "m3"):
        evidence.run_changes += ended(run)
    evidence.run_changes += [
        *(RunChange(52.5 + place, 110 + place, "w2", "m2", 3, 3, "s2", "s2", floor=10 * place + 10)
          for place in range(passes - 1)),
        *life("m4", (49.0, 120, 0, None), (49.1, 121, 3, "s2"), (50.0, 122, 8, None), (51.0, 123, 0, None),
              (51.1, 124, 3, "s2"), (52.0, 125, 7, None)),
    ]  # fmt: skip
    for turn in range(passes):
        evidence.lines.append({"e": "pass", "who": "w2", "t": 51.6 + turn, "run": "m2", "turn": turn})
        evidence.lines += [{**each, "seg": turn} for each in by_w2("m2", "add", 1, 51.7 + turn)]
    for place, key in enumerate(("add", "add#2", "add#3", "book", "add#4")):
        evidence.lines += by_w2("m3", key, 1, 50.0 + place / 10, **({"tx": True} if key == "book" else {}))
    told = [("m1a", "signal", 0, expected.chat(30).value[0]), ("m1a", "event", 0, 0)]
    evidence.lines += [
        {"e": "heard", "who": "w2", "t": 51.0, "run": run, "what": what, "place": place, "value": value}
        for run, what, place, value in told
    ]
    evidence.lines.append({"e": "used", "who": "w2", "t": 51.0, "run": "m1", "token": "t", "value": 1})
    evidence.run_changes.sort(key=lambda change: change.at)
    return evidence


@pytest.mark.parametrize("evidence", [of_branches, of_messages], ids=lambda made: made.__name__)
def test_faultless_evidence_passes(evidence: Callable[[], Evidence]) -> None:
    assert {name: found for name, found in checker.check(evidence()).items() if found} == {}


def place_of(evidence: Evidence, run: str, key: str) -> int:
    return next(at for at, each in enumerate(evidence.entries) if (each.run, each.key) == (run, key))


def change(evidence: Evidence, run: str, key: str, **facts: Any) -> None:
    at = place_of(evidence, run, key)
    evidence.entries[at] = attrs.evolve(evidence.entries[at], **facts)


def call_what_has_ended(evidence: Evidence) -> None:
    evidence.kills.append(Kill(60.0, "w9"))
    evidence.lines.append(line("enter", "x2", "hotel", 70.0, "w3"))


def call_what_was_skipped(evidence: Evidence) -> None:
    evidence.lines.append(line("enter", "x3", "graph/right", 51.0, "w2"))


def win_as_the_second(evidence: Evidence) -> None:
    evidence.entries.append(EntryRow("x1", 0, 1, "race/slow/add_async", 1, 1, "25", at=51.0))


def go_on_after_the_race(evidence: Evidence) -> None:
    evidence.lines.append(line("enter", "x1k", "add", 66.0, "w2"))


def forget_to_undo(evidence: Evidence) -> None:
    del evidence.entries[place_of(evidence, "x2", "flight#undo")]


def undo_twice(evidence: Evidence) -> None:
    evidence.entries.append(EntryRow("x2", 20, 1, "hotel#undo", 1, 1, "1", at=60.0))


def undo_in_another_order(evidence: Evidence) -> None:
    change(evidence, "x2", "hotel#undo", index=6, at=52.0)
    change(evidence, "x2", "gather/0/car#undo", index=9, at=53.0)


def undo_what_is_well(evidence: Evidence) -> None:
    evidence.entries += outcomes("x3", "hotel", "hotel#undo")
    evidence.runs[-1] = attrs.evolve(evidence.runs[-1], name="trip")


def undo_the_part_late(evidence: Evidence) -> None:
    change(evidence, "x2", "saga/rail#undo", index=30)


def keep_the_part(evidence: Evidence) -> None:
    del evidence.entries[place_of(evidence, "x2", "saga/rail#undo")]


@pytest.mark.parametrize(
    ("invariant", "seed"),
    [
        ("I21", call_what_has_ended), ("I21", call_what_was_skipped), ("I21", win_as_the_second),
        ("I21", go_on_after_the_race), ("I22", forget_to_undo), ("I22", undo_twice), ("I22", undo_in_another_order),
        ("I22", undo_what_is_well), ("I22", undo_the_part_late), ("I22", keep_the_part),
    ],
)  # fmt: skip
def test_a_violation_of_what_goes_several_ways_is_found(invariant: str, seed: Callable[[Evidence], None]) -> None:
    evidence = of_branches()
    seed(evidence)
    assert {each.invariant for each in checker.check(evidence)[invariant]} == {invariant}


def hear_it_twice(evidence: Evidence) -> None:
    heard = next(each for each in evidence.lines if each["e"] == "heard")
    evidence.lines.append({**heard, "place": 1})


def hear_another_event(evidence: Evidence) -> None:
    heard = next(each for each in evidence.lines if each["e"] == "heard" and each["what"] == "event")
    evidence.lines.append({**heard, "value": 1})


def trigger_twice(evidence: Evidence) -> None:
    evidence.runs += [attrs.evolve(each, run="m9") for each in evidence.runs if each.name == "reported"]


def trigger_nothing(evidence: Evidence) -> None:
    evidence.runs = [each for each in evidence.runs if each.name != "headline"]


def use_a_token_twice(evidence: Evidence) -> None:
    evidence.lines.append(next(each for each in evidence.lines if each["e"] == "used"))


def lose_a_pass(evidence: Evidence) -> None:
    evidence.lines = [each for each in evidence.lines if each["e"] != "pass" or each["turn"] != 0]


def pass_without_an_end(evidence: Evidence) -> None:
    evidence.run_changes = [each for each in evidence.run_changes if each.floor != 10]


def pass_again(evidence: Evidence) -> None:
    evidence.lines.append({"e": "pass", "who": "w2", "t": 58.0, "run": "m2", "turn": 0})


def pass_too_soon(evidence: Evidence) -> None:
    evidence.lines.append({"e": "pass", "who": "w2", "t": 50.0, "run": "m2", "turn": 1})


def commit_without_the_steps(evidence: Evidence) -> None:
    del evidence.entries[place_of(evidence, "m3", "add#2")]


def delete_what_counts(evidence: Evidence) -> None:
    evidence.changes.append(Change("entry delete", "m2", 31))


def fail_though_it_was_mended(evidence: Evidence) -> None:
    evidence.runs[-1] = attrs.evolve(evidence.runs[-1], status=8, output=None, error={"type": "StepFailed"})


def be_mended_by_nobody(evidence: Evidence) -> None:
    evidence.orders.clear()


@pytest.mark.parametrize(
    ("invariant", "seed"),
    [
        ("I23", hear_it_twice), ("I23", hear_another_event), ("I23", trigger_twice), ("I23", trigger_nothing),
        ("I23", use_a_token_twice), ("I24", lose_a_pass), ("I24", pass_without_an_end), ("I24", pass_again),
        ("I24", pass_too_soon), ("I25", commit_without_the_steps), ("I4", delete_what_counts),
        ("I3", fail_though_it_was_mended), ("I3", be_mended_by_nobody), ("I2", be_mended_by_nobody),
    ],
)  # fmt: skip
def test_a_violation_of_what_is_told_is_found(invariant: str, seed: Callable[[Evidence], None]) -> None:
    evidence = of_messages()
    seed(evidence)
    assert {each.invariant for each in checker.check(evidence)[invariant]} == {invariant}


def test_a_step_that_was_told_and_never_committed_needs_an_interruption() -> None:
    for killed in (True, False):
        evidence = of_messages()
        evidence.lines.append(line("sent", "m3", "add#5", 50.8, "w7", value="v"))
        if killed:
            evidence.kills.append(Kill(50.9, "w7"))
        assert (checker.check(evidence)["I5"] == []) is killed


def test_a_step_that_was_told_and_not_stored_needs_the_checkpoint_that_closed_its_segment() -> None:
    """That checkpoint is the last entry of its segment: what was told after it belongs to the next."""
    for closed in (True, False):
        evidence = of_messages()
        evidence.lines.append(line("sent", "m3", "add#5", 50.8, "w2", value="v"))
        evidence.lines.append(line("sent", "m3", "add", 50.9, "w2", value="v") | {"seg": 1})
        evidence.entries += [
            EntryRow("m3", index, CHECKPOINT, "checkpoint", at=51.0) for index in ([20, 30] if closed else [20])
        ]
        found = [each.what for each in checker.check(evidence)["I5"]]
        assert found == ([] if closed else ["add in segment 1 was sent a value, and none is stored"])
