"""The invariants, as pure functions of the evidence. Each gives what contradicts it; nothing means that it holds.

Here: I1 accepted, I2 terminal, I3 result, I4 memo, I5 observed, I6 transactional effect, I7 at least once and bounded,
I8 at most once. Those of time stand in `timing.py`, of ownership in `ownership.py`, of what is left in `leftovers.py`,
of branches and of what is undone in `branches.py`, of messages and of runs that go on for long in `messages.py`.
I18 (the replay audit) needs the code of the workload and stands in `audit.py`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from tests.chaos import branches, leftovers, messages, ownership, timing, witness
from tests.chaos.evidence import (
    CANCELLED,
    CHECKPOINT,
    COMPLETED,
    FAILED,
    FAILURE,
    SKIPPED,
    VALUE,
    Call,
    Evidence,
    Found,
    Line,
    Outcome,
    RunRow,
    Violation,
)
from tests.chaos.expected import EXPECTED, Expected, verb_of

BODIES = frozenset(
    {
        "add", "add_async", "flaky", "flaky_async", "broken", "no", "sync", "async", "one", "two", "three", "a", "b",
        "book", "book_async", "never", "lone", "tick", "tidy up", "draw", "blob", "measure", "too large", "nan",
        "surrogate", "naive", "grow", "shaky", "left", "right", "both", "rare", "end", "hotel", "rail",
        "flight", "reported",
    }
)  # fmt: skip
"""Last parts of the keys whose outcome comes from a function; in `family` they name children."""


def accepted(evidence: Evidence) -> Found:
    """I1: what the client was told is what there is."""
    roots: dict[int, list[RunRow]] = defaultdict(list)
    for row in evidence.runs:
        if row.parent is None and row.name in EXPECTED:
            roots[row.input["n"]].append(row)
    told: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for start in evidence.starts:
        told[start["n"]].append(start)
    for n in sorted(told.keys() | roots.keys()):
        said = {start["said"] for start in told[n]}
        rows = roots[n]
        wanted = (1, 1) if "ok" in said else (0, 1) if "unknown" in said else (0, 0)
        if not wanted[0] <= len(rows) <= wanted[1]:
            yield Violation("I1", "", f"start {n} was told {sorted(said)} and has {len(rows)} runs")
        ids = {start["run"] for start in told[n] if start["said"] == "ok"}
        if rows and ids and ids != {row.run for row in rows}:
            yield Violation("I1", rows[0].run, f"start {n} was told the runs {sorted(ids)}")


def terminal(evidence: Evidence) -> Found:
    """I2: every run has ended, once, and stays so."""
    ends: Counter[str] = Counter()
    for change in evidence.run_changes:
        if change.before == FAILED and change.status < COMPLETED and change.run in evidence.decided:
            ends[change.run] -= 1
        elif (change.before or 0) >= COMPLETED and change.status != change.before:
            yield Violation("I2", change.run, f"it left its end: {change.before} to {change.status}")
        elif change.status >= COMPLETED and change.status != change.before:
            ends[change.run] += 1
    for change in evidence.changes:
        if change.what == "run delete":
            yield Violation("I2", change.run, "its row was deleted")
    for row in evidence.runs:
        if row.status < COMPLETED:
            yield Violation("I2", row.run, f"{row.name} has not ended: status {row.status}, error {row.error}")
        elif ends[row.run] != 1:
            yield Violation("I2", row.run, f"{row.name} ended {ends[row.run]} times")


def result(evidence: Evidence) -> Found:
    """I3: the result is the pure function of the input."""
    for row in evidence.runs:
        if row.status < COMPLETED:
            continue
        if row.status == CANCELLED:
            if not _may_be_cancelled(evidence, row):
                yield Violation("I3", row.run, f"{row.name} was cancelled: {row.error}")
            continue
        wanted = expected_of(row)
        if wanted.may_fail:
            wanted = Expected(wanted.value) if _is_decided(evidence, row) else Expected(failure=wanted.failure)
        if wanted.failure is not None:
            if row.status != FAILED or (row.error["type"] != wanted.failure and not _unlucky(evidence, row)):
                yield Violation("I3", row.run, f"{row.name} was to fail with {wanted.failure}: {_end(row)}")
        elif not (row.status == COMPLETED and wanted.fits(row.output)) and not _unlucky(evidence, row):
            yield Violation("I3", row.run, f"{row.name}({row.input}) was to give {wanted.value}: {_end(row)}")
    yield from _tidied(evidence)


def _is_decided(evidence: Evidence, row: RunRow) -> bool:
    """Whether an operator was told that he had decided; or may have, when it went on."""
    said = {order["said"] for order in evidence.orders if order.get("run") == row.run}
    if row.status == FAILED:
        return "ok" in said
    # What he mends before he lets it be tried again may be mended before it is tried at all.
    return bool(said) if verb_of(row.input["n"]) == "retry" else bool(said & {"ok", "unknown"})


def _unlucky(evidence: Evidence, row: RunRow) -> bool:
    """Whether it, or one that it waits for, was taken for poison because its workers were killed again and again."""
    return row.status == FAILED and any(
        each.status == FAILED and each.error["type"] == "PoisonRun" and ownership.unlucky(evidence, each.run)
        for each in _family(evidence, row)
    )


def _family(evidence: Evidence, row: RunRow) -> Iterator[RunRow]:
    yield row
    for child in evidence.children.get(row.run, ()):
        yield from _family(evidence, child)


def _tidied(evidence: Evidence) -> Found:
    """A handler that was cancelled in the middle has cleaned up. One that was at it already was cancelled at that."""
    for row in evidence.runs:
        if evidence.outcomes.get((row.run, "add_async", 0)):
            continue
        begun = row.name == "tidy" and row.status == CANCELLED and evidence.history.get(row.run)
        if begun and evidence.ledger.get((row.run, "tidy up", 0), 0) != 1:
            yield Violation("I3", row.run, "it was cancelled in the middle, and did not clean up")


def expected_of(row: RunRow) -> Expected:
    """What a run comes to, also one that only other runs start."""
    given = row.input
    if row.name in EXPECTED:
        return EXPECTED[row.name](**given)
    match row.name:
        case "double":
            return Expected(given["n"] * given["times"])
        case "twin":
            return Expected(given["n"] * 2)
        case "listener":
            return EXPECTED["chat"](given["n"])
        case "hearer":
            return Expected(list(range(given["many"])))
        case "reported" | "headline":
            return Expected(given["n"] + given["k"])
        case "bad":
            return Expected(failure="ChildFailed" if given["depth"] else "RuntimeError")
        case "add":
            return Expected(given["a"] + given["b"])
        case "beat0" | "beat1" | "beat2" | "beat3" | "beat4":
            return Expected(given["place"])
        case _:
            return Expected(given["n"])


def _may_be_cancelled(evidence: Evidence, row: RunRow) -> bool:
    """Branches that lost in `fan` and `raced`, and what the client cancelled, with all below it."""
    while row.run not in evidence.cancelled:
        if row.parent is None or row.parent not in evidence.by_id:
            return False
        row = evidence.by_id[row.parent]
        if row.name in ("fan", "raced"):
            return True
    return True


def _end(row: RunRow) -> str:
    return f"{row.output}" if row.status == COMPLETED else f"status {row.status}, {str(row.error)[:600]}"


def memo(evidence: Evidence) -> Found:
    """I4: one outcome for each call, never changed, and deleted with its segment or pass only."""
    for change in evidence.changes:
        if change.what.startswith("entry"):
            yield Violation("I4", change.run, f"{change.what} at index {change.before}")
    for call, outcomes in evidence.outcomes.items():
        if len(outcomes) > 1:
            yield Violation("I4", call[0], f"{call[1]} in segment {call[2]} has {len(outcomes)} outcomes")


def observed(evidence: Evidence) -> Found:
    """I5: what a handler was sent, in any process and attempt, is the stored outcome."""
    for call, lines in evidence.told["sent"].items():
        values = {line["value"] for line in lines}
        if len(values) > 1 and call[0] not in evidence.decided:
            yield Violation("I5", call[0], f"{call[1]} in segment {call[2]} was sent {len(values)} different values")
        stored = evidence.outcomes.get(call)
        if stored is not None:
            if witness.of_stored(stored[0].status, stored[0].value) not in values:
                yield Violation("I5", call[0], f"{call[1]} in segment {call[2]} was sent what is not stored")
        elif not any(line.get("whole") for line in lines) and not _forgotten(evidence, call, lines):
            yield Violation("I5", call[0], f"{call[1]} in segment {call[2]} was sent a value, and none is stored")


def _forgotten(evidence: Evidence, call: Call, lines: list[Line]) -> bool:
    """Whether it was told before it was to be committed, and the checkpoint that closes it in was committed with it, or
    whoever told it was interrupted.
    """
    row = evidence.by_id.get(call[0])
    if row is None or row.name != "ahead" or not call[1].startswith("add"):
        return False
    saved = sum(entry.kind == CHECKPOINT for entry in evidence.history.get(call[0], ()))
    return call[2] < saved or all(evidence.interrupted(line["who"], line["t"], float("inf")) for line in lines)


def effect(evidence: Evidence) -> Found:
    """I6: a Transaction took effect once if its value is stored, and else not at all."""
    for call, n in evidence.ledger.items():
        stored = evidence.outcomes.get(call)
        wanted = 1 if stored and stored[0].status == VALUE else 0
        if n != wanted:
            yield Violation("I6", call[0], f"{call[1]} in segment {call[2]} took effect {n} times, not {wanted}")
    for call, lines in evidence.told["enter"].items():
        stored = evidence.outcomes.get(call)
        if lines[0].get("tx") and stored and stored[0].status == VALUE and call not in evidence.ledger:
            yield Violation("I6", call[0], f"{call[1]} in segment {call[2]} has an outcome and took no effect")


def at_least_once(evidence: Evidence) -> Found:
    """I7: a stored outcome had a call that gave it; a call comes again only when it was interrupted."""
    for call, outcomes in evidence.outcomes.items():
        if _is_body(evidence, call) and outcomes[0].status == VALUE:
            wanted = witness.of_stored(VALUE, outcomes[0].value)
            if wanted not in {line["value"] for line in evidence.told["exit"].get(call, ())}:
                yield Violation("I7", call[0], f"{call[1]} in segment {call[2]} has a value that no call gave")
        elif _is_body(evidence, call) and not evidence.told["enter"].get(call) and not _needs_no_call(outcomes[0]):
            yield Violation("I7", call[0], f"{call[1]} in segment {call[2]} failed, and was never called")
    for call, attempt, one, other in again(evidence):
        if not _explained(evidence, one, other):
            text = f"attempt {attempt} of {call[1]} in segment {call[2]} was called again without an interruption"
            when = f"by {one['who']} at {one['t']:.3f}, {other['who']} at {other['t']:.3f}"
            logged = evidence.logged(one["who"], one["t"] - 5.0, other["t"])
            yield Violation("I7", call[0], f"{text}: {when}; before that it logged: {logged or 'nothing'}")


def again(evidence: Evidence) -> Iterator[tuple[Call, int, Line, Line]]:
    """Calls that came again under the same attempt: the one before, and the one after."""
    for call, lines in evidence.told["enter"].items():
        if call[0] in evidence.decided:
            continue  # its attempts begin anew
        by_attempt: dict[int, list[Line]] = defaultdict(list)
        for line in lines:
            by_attempt[line["attempt"]].append(line)
        for attempt, entered in by_attempt.items():
            entered.sort(key=lambda line: line["t"])
            for one, other in pairwise(entered):
                yield call, attempt, one, other


def _explained(evidence: Evidence, one: Line, other: Line) -> bool:
    if evidence.interrupted(one["who"], one["t"], other["t"]) or evidence.woke_too_late(other):
        return True
    # The connection of a Transaction broke, or another one of its worker did: what became of that one's statement is
    # not known until its epoch is counted up, which may take a lease, and refuses what is under way.
    return bool(one.get("tx")) and evidence.struck(BROKEN, one["who"], one["t"] - evidence.lease - 1.0, other["t"])


def _is_body(evidence: Evidence, call: Call) -> bool:
    run, key, _ = call
    row = evidence.by_id.get(run)
    return row is not None and row.name != "family" and key.rpartition("/")[2].partition("#")[0] in BODIES


def _needs_no_call(outcome: Outcome) -> bool:
    return _is_interrupted(outcome) or outcome.status == SKIPPED


def _is_interrupted(outcome: Outcome) -> bool:
    return outcome.status == FAILURE and '"StepInterrupted"' in (outcome.value or "")


def at_most_once(evidence: Evidence) -> Found:
    """I8: at most one call for each attempt; one that was interrupted is reported so, and nothing else is."""
    for call, lines in evidence.told["enter"].items():
        if not lines[0].get("once"):
            continue
        for attempt, count in Counter(line["attempt"] for line in lines).items():
            if count > 1:
                yield Violation("I8", call[0], f"attempt {attempt} of {call[1]} was called {count} times")
    end = float("inf")
    for call, outcomes in evidence.outcomes.items():
        if not _is_interrupted(outcomes[0]):
            continue
        entered = [line for line in evidence.told["enter"].get(call, ()) if line["attempt"] == outcomes[0].attempt]
        if entered and not evidence.interrupted(entered[-1]["who"], entered[-1]["t"], end):
            yield Violation("I8", call[0], f"{call[1]} is reported as interrupted, and was not")


BROKEN = frozenset({"server", "blackhole", "reset", "terminate", "ack"})
"""What ends connections of a worker that goes on."""

INVARIANTS: dict[str, tuple[str, Callable[[Evidence], Found]]] = {
    "I1": ("accepted", accepted),
    "I2": ("terminal", terminal),
    "I3": ("result", result),
    "I4": ("memo", memo),
    "I5": ("observed", observed),
    "I6": ("transactional effect", effect),
    "I7": ("at least once, bounded", at_least_once),
    "I8": ("at most once", at_most_once),
    "I9": ("sleeps", timing.sleeps),
    "I10": ("schedules", timing.schedules),
    "I11": ("fencing", ownership.fencing),
    "I12": ("exclusivity", ownership.exclusivity),
    "I13": ("children", ownership.children),
    "I14": ("crash budget", ownership.crash_budget),
    "I15": ("clean", leftovers.clean),
    "I16": ("recovery time", timing.recovery),
    "I17": ("storage", leftovers.storage),
    "I19": ("quiet", leftovers.quiet),
    "I20": ("fairness", timing.fairness),
    "I21": ("branches", branches.branches),
    "I22": ("undone", branches.undone),
    "I23": ("messages", messages.messages),
    "I24": ("passes", messages.passes),
    "I25": ("steps ahead", messages.ahead),
}


def check(evidence: Evidence) -> dict[str, list[Violation]]:
    """Every invariant with what contradicts it."""
    return {name: list(invariant(evidence)) for name, (_, invariant) in INVARIANTS.items()}
