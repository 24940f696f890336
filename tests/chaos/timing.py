"""The invariants of time: I9 sleeps, I10 schedules, I16 recovery, I20 fairness.

What the machine or the server took is left out: each bound is of the time in which somebody could have worked.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from tests.chaos.bodies import DEATH
from tests.chaos.evidence import (
    ARMED,
    ATTEMPT,
    CHILD,
    OUTCOME,
    READY,
    RUNNING,
    VALUE,
    WAITING,
    Call,
    EntryRow,
    Evidence,
    Found,
    RunChange,
    Tick,
    Violation,
)

EXACT = 0.002
"""Seconds by which two times of the database's clock may differ when they are to be the same."""
CLOCKS = 0.05
"""Seconds by which the two clocks, as they were compared once, may be apart."""
ANY = frozenset({"server", "stop", "blackhole", "reset", "terminate", "ack", "stall", "term"})
MANY = 200
"""Times of which the 99th percentile is more than the worst one or two."""
SLACK = 1.0
"""Seconds beyond what is promised, for the machine."""


def percentile(times: list[float], share: float) -> float:
    ordered = sorted(times)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


# I9


def sleeps(evidence: Evidence) -> Found:
    """I9: a sleep is armed once, for as long as it was to be, is never over early, and seldom late."""
    armed: dict[Call, list[EntryRow]] = defaultdict(list)
    ends: dict[Call, EntryRow] = {}
    for entry, segment in evidence.segments():
        call = (entry.run, entry.key, segment)
        if entry.kind == ARMED:
            armed[call].append(entry)
        elif entry.kind == OUTCOME and entry.status == VALUE:
            ends[call] = entry
    asked = {(line["run"], line["key"], line["seg"]): line["seconds"] for line in evidence.lines if line["e"] == "nap"}
    late: list[float] = []
    calm: list[float] = []
    for call, seconds in asked.items():
        entries = armed.get(call, [])
        if len(entries) > 1:
            yield Violation("I9", call[0], f"{call[1]} was armed {len(entries)} times")
        for entry in entries:
            took = (entry.due or 0.0) - entry.at
            if abs(took - seconds) > EXACT:
                yield Violation("I9", call[0], f"{call[1]} was to last {seconds} s and is due after {took:.3f} s")
        end = ends.get(call)
        if end is not None and seconds > 0 and not entries:
            yield Violation("I9", call[0], f"{call[1]} is over, and was never armed")
        if entries and end is not None and end.at < (entries[0].due or 0.0) - EXACT:
            yield Violation("I9", call[0], f"{call[1]} was over {(entries[0].due or 0.0) - end.at:.3f} s early")
        if entries:
            yield from _woken(evidence, call, entries[0], late, calm)
    slack = SLACK * evidence.pace
    for times, bound in ((calm, evidence.poll + slack), (late, 2 * evidence.lease + evidence.poll + slack)):
        share = 0.99 if len(times) >= MANY else 0.9
        if percentile(times, share) > bound:
            what = f"p{share * 100:.0f} of lateness is {percentile(times, share):.2f} s, more than {bound:.2f} s"
            yield Violation("I9", "", what)
    yield from _waits(evidence)


def _woken(evidence: Evidence, call: Call, entry: EntryRow, late: list[float], calm: list[float]) -> Found:
    """`late` gets the seconds of lateness, `calm` too when nobody was hit shortly before."""
    lines = evidence.told["sent"].get(call)
    if not lines:
        return
    due, woken = entry.due or 0.0, lines[0]["t"]
    if woken < due - CLOCKS:
        yield Violation("I9", call[0], f"{call[1]} went on {due - woken:.3f} s before it was due")
    recovered = any(change.recoveries for change in evidence.changes_of.get(call[0], ()) if change.at <= woken)
    if not recovered:
        seconds = max(0.0, woken - due - evidence.outage(due, woken))
        late.append(seconds)
        since = due - evidence.lease - SLACK
        if not any(since <= kill.t <= woken for kill in evidence.kills) and not evidence.struck(
            ANY, None, since, woken
        ):
            calm.append(seconds)


def _waits(evidence: Evidence) -> Found:
    """A run waits until a time that stands in its history, and until no other."""
    dues: dict[str, list[float]] = defaultdict(list)
    for entry in evidence.entries:
        if entry.due is not None and entry.kind in (ARMED, ATTEMPT, CHILD):
            dues[entry.run].append(entry.due)
    for change in evidence.run_changes:
        waits = change.status == WAITING and change.due is not None and change.due != change.deadline
        if waits and not any(abs((change.due or 0.0) - due) < EXACT for due in dues.get(change.run, ())):
            yield Violation("I9", change.run, "it waits until a time that no entry of it has")


# I10


def schedules(evidence: Evidence) -> Found:
    """I10: one run for each tick, for none that was not; a tick is skipped only when its time had passed."""
    runs: Counter[tuple[str, str, float]] = Counter()
    for row in evidence.runs:
        if (row.trigger or {}).get("kind") == "cron":
            at = datetime.fromisoformat(row.trigger["scheduled_at"]).timestamp()
            runs[row.name, row.trigger["name"], at] += 1
    seen = set()
    last: dict[tuple[str, str], Tick] = {}
    for tick in evidence.ticks:
        if tick.after is not None and tick.origin == "code":
            last[tick.target, tick.name] = tick
        if tick.before is None or tick.after is None:
            continue
        seen.add((tick.target, tick.name, tick.before))
        made = runs[tick.target, tick.name, tick.before]
        what = f"the tick of {tick.name} of {tick.target} at {tick.before:.0f}"
        if made != 1:
            yield Violation("I10", "", f"{what} started {made} runs")
        if tick.after > tick.before + 1 + EXACT and tick.at + evidence.shift < tick.after - 1 - EXACT:
            yield Violation("I10", "", f"{what} skipped the next ones, which were yet to come")
        yield from _late(evidence, tick, what)
    for (target, name, at), count in runs.items():
        if (target, name, at) not in seen:
            yield Violation("I10", "", f"{count} runs of {target} are for a tick of {name} at {at:.0f}, which was not")
    for tick in last.values():
        if tick.after is not None and evidence.quiet_at < float("inf"):
            yield from _late(evidence, tick, f"the last tick of {tick.target}", until=evidence.quiet_at)
    stopped = {f"every second {cancel['n']}" for cancel in evidence.cancels}
    for left in evidence.schedules:
        if left.origin == "dynamic" and left.name not in stopped:
            yield Violation("I10", "", f"the schedule {left.name} of {left.target} is still there")


def _late(evidence: Evidence, tick: Tick, what: str, until: float | None = None) -> Found:
    due = (tick.before if until is None else tick.after or 0.0) or 0.0
    since, done = due - evidence.shift, tick.at if until is None else until
    took = done - since - evidence.outage(since, done)
    if took > evidence.lease + evidence.poll + 2 * SLACK * evidence.pace:
        yield Violation("I10", "", f"{what} came {took:.1f} s late")


# I16


def takeovers(evidence: Evidence) -> Iterator[tuple[str, float, bool]]:
    """Of each run that a killed worker owned: the worker, and seconds until the next claim; and whether it was a
    suspect, which waits for a worker with nothing else.
    """
    owned: dict[str, list[RunChange]] = defaultdict(list)
    for change in evidence.run_changes:
        if change.owner is not None and change.owner != change.owner_before:
            owned[change.owner].append(change)
    for session in evidence.sessions.values():
        at = evidence.killed_at.get(session.who)
        if at is None or session.born > at or (session.dead is not None and session.dead < at):
            continue
        for mine in owned[session.id]:
            after = [change for change in evidence.changes_of[mine.run] if change.at >= mine.at and change is not mine]
            left = next((change for change in after if change.owner_before == session.id), None)
            if mine.at > at or (left is not None and left.at < at):
                continue
            following = next((change for change in after if change.status == RUNNING and change.at > at), None)
            if following is not None:
                seconds = following.at - at - evidence.outage(at, following.at)
                yield session.who, max(0.0, seconds), following.recoveries >= 2


def returns(evidence: Evidence) -> list[float]:
    """Seconds from the moment that the server was back until the first write of a worker."""
    ats = sorted(write.at for write in evidence.writes)
    found = []
    for span in evidence.spans:
        if span.kind == "server":
            after = next((at for at in ats if at > span.until), None)
            if after is not None:
                found.append(max(0.0, after - span.until - evidence.outage(span.until, after)))
    return found


def recovery(evidence: Evidence) -> Found:
    """I16: runs of the dead go on after the lease, work goes on when the server is back, a stop in order is quick."""
    slack = SLACK * evidence.pace
    bound = evidence.lease + evidence.heartbeat + evidence.poll + slack
    times = [seconds for _, seconds, suspect in takeovers(evidence) if not suspect]
    if percentile(times, 0.5) > evidence.lease + evidence.poll + slack:
        yield Violation("I16", "", f"half of the takeovers took {percentile(times, 0.5):.2f} s or more")
    if percentile(times, 0.99) > bound:
        yield Violation("I16", "", f"p99 of the takeovers is {percentile(times, 0.99):.2f} s, more than {bound:.2f} s")
    back = returns(evidence)
    if percentile(back, 0.99) > 2.0 + slack:
        yield Violation("I16", "", f"p99 from the server's return to the first write is {percentile(back, 0.99):.2f} s")
    begun = {session.who: session.born for session in evidence.sessions.values()}
    for stop in evidence.stops:
        if stop["code"] == DEATH and any(stop["t"] <= evidence.killed_at.get(who, -1.0) for who in stop["whos"]):
            continue  # a function that was under way ended the process
        # A process that has not begun to work has nothing to do before it ends.
        fine = (0,) if any(begun.get(who, stop["t"]) < stop["t"] for who in stop["whos"]) else (0, -15)
        if stop["code"] not in fine:
            yield Violation("I16", "", f"{stop['unit']} was told to stop and ended with {stop['code']}")


# I20


def waits(evidence: Evidence) -> Iterator[tuple[RunChange, float]]:
    """How long each run that was ready was not claimed; suspects apart."""
    for changes in evidence.changes_of.values():
        ready: RunChange | None = None
        for change in changes:
            if change.status == READY and (ready is None or change.owner_before is not None):
                ready = change
            elif change.status == RUNNING and ready is not None:
                if ready.recoveries < 2:
                    seconds = change.at - ready.at - evidence.outage(ready.at, change.at)
                    yield ready, max(0.0, seconds)
                ready = None
            elif change.status != READY:
                ready = None


def fairness(evidence: Evidence) -> Found:
    """I20: no run that could be claimed waits for longer than a stated time."""
    bound = longest_wait(evidence)
    for ready, seconds in waits(evidence):
        row: Any = evidence.by_id.get(ready.run)
        if seconds > bound and row is not None and row.name != "fresh":
            yield Violation("I20", ready.run, f"{row.name} was ready for {seconds:.1f} s before anybody claimed it")


def longest_wait(evidence: Evidence) -> float:
    """Two leases: the first may be a suspect's turn, for which a worker makes room."""
    return 2 * evidence.lease + 5 * SLACK * evidence.pace
