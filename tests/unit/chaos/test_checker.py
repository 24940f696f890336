"""The checker can fail: good evidence passes, and each seeded violation is named by its invariant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from tests.chaos import checker, witness
from tests.chaos.evidence import (
    Change,
    EntryRow,
    Evidence,
    Kill,
    RunChange,
    RunRow,
    Session,
    Span,
    Tick,
    Write,
)
from tests.unit.chaos.good import OVER, called, cron, good, line


def changed(rows: list[Any], place: int, **facts: Any) -> None:
    rows[place] = attrs.evolve(rows[place], **facts)


def test_faultless_evidence_passes() -> None:
    found = checker.check(good())
    assert {name: each for name, each in found.items() if each} == {}
    assert set(found) == {f"I{number}" for number in range(1, 26) if number != 18}


def lose(evidence: Evidence) -> None:
    evidence.runs.pop(0)


def double(evidence: Evidence) -> None:
    evidence.runs.append(attrs.evolve(evidence.runs[0], run="r1-again"))


def refuse(evidence: Evidence) -> None:
    evidence.runs.append(RunRow("r4", None, "nap", 7, {"n": 4}, 4))


def strand(evidence: Evidence) -> None:
    changed(evidence.runs, 0, status=3)


def revive(evidence: Evidence) -> None:
    evidence.run_changes.append(RunChange(30.0, 99, "w2", "r1", 7, 0))


def end_twice(evidence: Evidence) -> None:
    evidence.run_changes.append(RunChange(30.0, 99, "w2", "r1", 3, 7))


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
    evidence.lines[:] = [each for each in evidence.lines if each.get("run") != "r1"]


def call_again(evidence: Evidence) -> None:
    evidence.lines += [line("enter", "r1", "add", 30.0, "w3"), line("enter", "r1", "add", 31.0, "w4")]


def call_once_twice(evidence: Evidence) -> None:
    evidence.lines.append(line("enter", "r3", "one", 15.0, "w2", once=True))


def interrupt_nothing(evidence: Evidence) -> None:
    evidence.kills.clear()
    evidence.sessions["s1"] = Session("s1", "w1", 0.0)


def not_clean_up(evidence: Evidence) -> None:
    evidence.runs.append(RunRow("y1", None, "tidy", 9, {"n": 1}))
    evidence.entries.append(EntryRow("y1", 1, 1, "add", 1, 1, "1"))
    evidence.cancels.append({"n": 8, "run": "y1", "said": "ok"})


def wake_early(evidence: Evidence) -> None:
    changed(evidence.entries, 2, at=10.5)


def go_on_early(evidence: Evidence) -> None:
    evidence.lines[4] = {**evidence.lines[4], "t": 10.5}


def sleep_for_another_time(evidence: Evidence) -> None:
    changed(evidence.entries, 1, due=10.6)


def not_sleep(evidence: Evidence) -> None:
    del evidence.entries[1]


def arm_twice(evidence: Evidence) -> None:
    evidence.entries.append(EntryRow("r1", 9, 4, "sleep", at=10.7, due=11.2))


def wait_for_another_time(evidence: Evidence) -> None:
    changed(evidence.run_changes, 2, due=10.9)


def wake_late(evidence: Evidence) -> None:
    evidence.lines[4] = {**evidence.lines[4], "t": 17.0}
    evidence.kills.clear()


def tick_twice(evidence: Evidence) -> None:
    evidence.runs.append(attrs.evolve(evidence.runs[3], run="t2"))


def lose_a_tick(evidence: Evidence) -> None:
    del evidence.runs[3]


def make_a_tick_up(evidence: Evidence) -> None:
    evidence.runs.append(attrs.evolve(evidence.runs[3], run="t2", trigger=cron("s", 1005)))


def skip_a_tick(evidence: Evidence) -> None:
    changed(evidence.ticks, 0, after=1003.0)


def tick_late(evidence: Evidence) -> None:
    changed(evidence.ticks, 0, at=21.0)


def write_as_another(evidence: Evidence) -> None:
    evidence.writes.append(Write(10.6, 50, "w2", ("r1",), (9,)))


def write_after_the_end(evidence: Evidence) -> None:
    changed(evidence.run_changes, 7, at=13.3)
    evidence.writes.append(Write(13.2, 51, "w1", ("r2",), (9,)))


def end_after_the_end(evidence: Evidence) -> None:
    changed(evidence.run_changes, 7, at=13.3)


def take_what_is_owned(evidence: Evidence) -> None:
    evidence.run_changes.append(RunChange(11.9, 52, "w2", "r3", 3, 3, "s1", "s2"))


def lose_a_lease_without_a_reason(evidence: Evidence) -> None:
    evidence.sessions["s2"] = Session("s2", "w2", 1.0, dead=30.0, dead_by="w3", quiet=30.1)


def work_without_owning(evidence: Evidence) -> None:
    evidence.lines.append(line("enter", "r1", "add#2", 10.5, "w2"))


def work_on_after_giving_up(evidence: Evidence) -> None:
    evidence.lines.append(line("enter", "r1", "add#2", 12.0, "w1"))


def have_two_children(evidence: Evidence) -> None:
    evidence.runs.append(attrs.evolve(evidence.runs[4], run="k2"))


def tell_the_parent_another_thing(evidence: Evidence) -> None:
    changed(evidence.entries, 4, value="3")


def leave_a_child(evidence: Evidence) -> None:
    changed(evidence.runs, 0, status=8, error={"type": "x"})
    evidence.lines.append(line("enter", "k1", "add", 40.0))


def kill_too_many(evidence: Evidence) -> None:
    evidence.lines.append(line("die", "p1", "die", 21.0, "d5"))


def be_taken_for_poison(evidence: Evidence) -> None:
    changed(evidence.runs, 0, status=8, error={"type": "PoisonRun"}, recoveries=5)


def give_up_too_soon(evidence: Evidence) -> None:
    changed(evidence.runs, 5, recoveries=3)


def keep_a_lease(evidence: Evidence) -> None:
    evidence.left["runs that are owned"] = 1


def recover_late(evidence: Evidence) -> None:
    place = next(at for at, each in enumerate(evidence.run_changes) if each.owner == "s2" and each.run == "r3")
    changed(evidence.run_changes, place, at=19.0)


def come_back_late(evidence: Evidence) -> None:
    evidence.spans.append(Span("server", 5.0, 6.0))


def stop_badly(evidence: Evidence) -> None:
    evidence.stops.append({"unit": "plain-0", "t": 1.0, "seconds": 20.0, "code": None, "whos": ["w1"]})


def break_an_index(evidence: Evidence) -> None:
    evidence.storage["invalid indexes"] = 1


def say_something_new(evidence: Evidence) -> None:
    evidence.lines.append({"e": "log", "who": "w1", "t": 1.0, "level": "ERROR", "name": "flowgen", "text": "oh"})


def print_a_traceback(evidence: Evidence) -> None:
    evidence.logs.append("Traceback (most recent call last):")


def test_what_python_says_when_a_parent_is_killed_while_it_starts_a_process_is_no_traceback_of_the_engine() -> None:
    said = [
        "Traceback (most recent call last):",
        '  File "<string>", line 1, in <module>',
        '  File "/usr/lib/python3.11/multiprocessing/spawn.py", line 130, in _main',
        "    preparation_data = reduction.pickle.load(from_parent)",
        "EOFError: Ran out of input",
    ]
    evidence = good()
    evidence.logs.extend(said)
    assert not checker.check(evidence)["I19"]
    evidence.logs.extend([*said[:2], '  File "/flowgen/worker/worker.py", line 1, in serve', *said[3:]])
    assert checker.check(evidence)["I19"]


def say_the_secret(evidence: Evidence) -> None:
    evidence.logs.append("cannot connect to postgresql://me:s3cret@host")


def wait_for_a_claim(evidence: Evidence) -> None:
    changed(evidence.run_changes, 5, at=-5.0)


def leave_a_schedule(evidence: Evidence) -> None:
    evidence.ticks.insert(0, Tick(1.0, 41, "beat0", "cron", "code", None, 991.0))
    evidence.quiet_at = 20.0


SEEDED = [
    ("I1", lose), ("I1", double), ("I1", refuse), ("I2", strand), ("I2", revive), ("I2", end_twice), ("I2", delete),
    ("I3", miscount), ("I3", fail), ("I3", cancel), ("I3", not_clean_up), ("I4", update), ("I4", record_twice),
    ("I5", send_its_own), ("I5", send_what_is_not_stored), ("I5", store_another), ("I6", book_twice),
    ("I6", book_without_outcome), ("I6", forget_the_effect), ("I7", invent), ("I7", call_again),
    ("I8", call_once_twice), ("I8", interrupt_nothing), ("I9", wake_early), ("I9", go_on_early),
    ("I9", sleep_for_another_time), ("I9", arm_twice), ("I9", not_sleep), ("I9", wait_for_another_time),
    ("I9", wake_late),
    ("I10", tick_twice), ("I10", lose_a_tick), ("I10", make_a_tick_up), ("I10", skip_a_tick), ("I10", tick_late),
    ("I10", leave_a_schedule), ("I11", write_as_another), ("I11", write_after_the_end), ("I11", end_after_the_end),
    ("I12", take_what_is_owned), ("I12", lose_a_lease_without_a_reason), ("I12", work_without_owning),
    ("I12", work_on_after_giving_up), ("I13", have_two_children), ("I13", tell_the_parent_another_thing),
    ("I13", leave_a_child), ("I14", kill_too_many), ("I14", be_taken_for_poison), ("I14", give_up_too_soon),
    ("I15", keep_a_lease), ("I16", recover_late), ("I16", come_back_late), ("I16", stop_badly),
    ("I17", break_an_index), ("I19", say_something_new), ("I19", print_a_traceback), ("I19", say_the_secret),
    ("I20", wait_for_a_claim),
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
        {"e": "log", "who": "w3", "t": 30.5, "level": "WARNING", "name": "flowgen", "text": OVER},
    ):
        evidence = good()
        evidence.lines += [line("enter", "r9", "add", 30.0, "w3"), line("enter", "r9", "add", 31.0, "w4")]
        if isinstance(explained, Kill):
            evidence.kills.append(explained)
        else:
            evidence.lines.append(explained)
        assert checker.check(evidence)["I7"] == []


def test_only_a_transaction_may_come_again_because_its_connection_broke() -> None:
    for tx, explained in ((True, True), (False, False)):
        evidence = good()
        facts = {"tx": True} if tx else {}
        evidence.lines += [line("enter", "r9", "book", t, "w3", **facts) for t in (30.0, 31.0)]
        evidence.spans.append(Span("server", 30.5, 30.8))
        assert (checker.check(evidence)["I7"] == []) is explained


def test_a_worker_that_was_stopped_may_begin_a_call_before_it_looks() -> None:
    for stopped in (True, False):
        evidence = good()
        evidence.lines += [line("enter", "r9", "add", 30.0, "w3"), line("enter", "r9", "add", 31.0, "w4")]
        evidence.lines.append({"e": "log", "who": "w4", "t": 31.1, "level": "WARNING", "name": "flowgen", "text": OVER})
        if stopped:
            evidence.spans.append(Span("stop", 27.0, 30.9, "w4"))
        assert (checker.check(evidence)["I7"] == []) is stopped


def test_segments_part_the_calls_of_a_loop() -> None:
    evidence = good()
    evidence.entries += [
        EntryRow("r1", 12, 6, "checkpoint", value="[1, 1, {}]"),
        EntryRow("r1", 13, 1, "add", 1, 1, "4"),
    ]
    evidence.lines += [{**each, "seg": 1} for each in called("r1", "add", 4, 15.0)]
    found = checker.check(evidence)
    assert found["I4"] == found["I5"] == found["I7"] == []


def test_an_outcome_that_was_set_aside_answers_no_longer() -> None:
    evidence = good()
    evidence.entries += [
        EntryRow("r1", 12, 7, "", value='{"indexes": [1]}'),
        EntryRow("r1", 13, 1, "add", 1, 1, "1"),
    ]
    assert checker.check(evidence)["I4"] == []


@pytest.mark.parametrize(
    "reason",
    [
        Span("stop", 27.0, 29.9, "w2"),
        Span("blackhole", 27.0, 29.0, "w2"),
        Span("server", 28.0, 29.5),
    ],
    ids=lambda span: span.kind,
)
def test_a_lease_may_be_lost_for_a_reason(reason: Span) -> None:
    evidence = good()
    lose_a_lease_without_a_reason(evidence)
    evidence.spans.append(reason)
    assert checker.check(evidence)["I12"] == []


def test_a_registration_whose_answer_was_lost_leaves_a_session_that_nobody_has() -> None:
    for lost in (True, False):
        evidence = good()
        evidence.sessions["s3"] = Session("s3", "w3", 30.0, dead=32.1, dead_by="w2")
        evidence.sessions["s4"] = Session("s4", "w3", 30.1)
        if lost:
            evidence.spans.append(Span("ack", 28.9, 30.4))
        assert (checker.check(evidence)["I12"] == []) is lost


def test_a_run_whose_workers_were_all_killed_may_be_taken_for_poison() -> None:
    for killed in (5, 4):
        evidence = good()
        changes = [RunChange(40.0, 70, "", "u1", None, 0)]
        for place in range(6):
            who, session, at = f"u{place}", f"us{place}", 41.0 + place
            evidence.sessions[session] = Session(session, who, 30.0)
            changes.append(RunChange(at, 71 + place, who, "u1", 0, 3, None, session, recoveries=place))
            if place < 5:
                changes.append(RunChange(at + 0.5, 80 + place, "w2", "u1", 3, 0, session, None, recoveries=place + 1))
            if place < killed:
                evidence.kills.append(Kill(at + 0.2, who))
                evidence.sessions[session].dead = at + 0.4
        changes.append(RunChange(46.5, 90, "u5", "u1", 3, 8, "us5", None, recoveries=5))
        evidence.run_changes += changes
        evidence.runs.append(RunRow("u1", None, "tick", 8, {"n": 5}, error={"type": "PoisonRun"}, recoveries=5))
        found = checker.check(evidence)
        assert (found["I3"] == found["I14"] == []) is (killed == 5)


def test_time_in_which_nobody_could_work_does_not_count() -> None:
    evidence = good()
    evidence.spans = [Span("server", 1.0, 2.0), Span("stall", 1.5, 3.0), Span("stop", 0.0, 9.0, "w2")]
    assert evidence.outage(0.0, 9.0) == pytest.approx(2.0)
    assert evidence.outage(1.5, 2.5) == pytest.approx(1.0)
    evidence = good()  # where w1 dies and only w2 is left
    evidence.spans = [Span("stop", 15.0, 16.0, "w2")]
    assert evidence.outage(10.0, 20.0) == pytest.approx(1.0)
