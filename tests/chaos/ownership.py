"""The invariants of ownership: I11 fencing, I12 exclusivity, I13 children, I14 crash budget."""

from __future__ import annotations

import json
from collections import Counter, defaultdict

from tests.chaos.evidence import (
    CANCELLED,
    CHILD,
    COMPLETED,
    FAILED,
    OUTCOME,
    READY,
    VALUE,
    Call,
    EntryRow,
    Evidence,
    Found,
    RunRow,
    Session,
    Violation,
)

DEATHS = 5
"""Workers that one poison run may end: two in company, `max_recoveries` (3) alone."""
FUZZ = 0.5
"""Seconds for which a process may say something of a run that it has just given up."""
CLOCKS = 0.05
"""Seconds by which the database's clock and the machine's, as they were compared once, may be apart."""
ALLOWED = frozenset({"server", "stop", "blackhole", "stall"})
"""What may cost a worker that lives its lease."""
UNHEARD = frozenset({"ack", "reset", "terminate", "blackhole"})
"""What may cost it an answer."""


# I11


def fencing(evidence: Evidence) -> Found:
    """I11: entries are written by the owner only, and never by a session that can write no more."""
    workers = {session.who for session in evidence.sessions.values()}
    for write in evidence.writes:
        if write.who not in workers:
            continue
        for run in dict.fromkeys(write.runs):
            owner = evidence.owner(run, write.at, write.tx)
            if owner is None:
                yield Violation("I11", run, f"{write.who} wrote into it at {write.at:.3f}, and nobody owned it")
            elif owner.who != write.who:
                yield Violation("I11", run, f"{write.who} wrote into it at {write.at:.3f}, {owner.who} owned it")
            elif owner.quiet is not None and write.at > owner.quiet:
                late = write.at - owner.quiet
                yield Violation("I11", run, f"{write.who} wrote into it {late:.3f} s after its session was over")
    for change in evidence.run_changes:
        session = evidence.sessions.get(change.owner_before or "")
        over = session is not None and session.quiet is not None and change.at > session.quiet
        if over and change.status not in (READY, change.before):
            yield Violation("I11", change.run, f"it became {change.status} under a session that was over")


# I12


def exclusivity(evidence: Evidence) -> Found:
    """I12: a run has one owner at a time, who alone works on it; a worker that lives does not lose its lease."""
    for change in evidence.run_changes:
        if change.owner is not None and change.owner_before not in (None, change.owner):
            yield Violation("I12", change.run, f"{change.owner} took it while {change.owner_before} owned it")
    by_who: dict[str, list[Session]] = defaultdict(list)
    for session in evidence.sessions.values():
        by_who[session.who].append(session)
    for sessions in by_who.values():
        sessions.sort(key=lambda session: session.born)
        for place, session in enumerate(sessions):
            following = sessions[place + 1] if place + 1 < len(sessions) else None
            if session.dead is not None and not _may_end(evidence, session, following):
                yield Violation("I12", "", f"{session.who} lived and lost its lease at {session.dead:.3f}")
    for line in evidence.lines:
        if line["e"] in ("enter", "sent"):
            yield from _at_work(evidence, line["who"], line["run"], line["key"], line["t"])


def _may_end(evidence: Evidence, session: Session, following: Session | None) -> bool:
    assert session.dead is not None
    if session.dead_by == session.who and following is None:
        return True  # it left
    if evidence.killed_at.get(session.who, float("inf")) <= session.dead + CLOCKS:
        return True
    if following is not None and following.born < min(session.dead, session.born + evidence.lease):
        # The answer to its registration was lost, so the worker asked for another one.
        return evidence.struck(UNHEARD | ALLOWED, session.who, session.born - FUZZ, following.born)
    return evidence.struck(ALLOWED, session.who, session.dead - 2 * evidence.lease - 1.0, session.dead)


def _at_work(evidence: Evidence, who: str, run: str, key: str, t: float) -> Found:
    mine: Session | None = None
    lost = 0.0
    for change in evidence.changes_of.get(run, ()):
        if change.at > t:
            break
        owner = evidence.sessions.get(change.owner or "")
        if owner is not None and owner.who == who:
            mine, lost = owner, 0.0
        elif mine is not None and not lost:
            lost = change.at
    if mine is None:
        yield Violation("I12", run, f"{who} worked on {key} at {t:.3f} and never owned it")
    elif lost and t - lost > FUZZ and not (mine.dead is not None and mine.dead <= t):
        yield Violation("I12", run, f"{who} worked on {key} {t - lost:.3f} s after it had given it up")


# I13


def children(evidence: Evidence) -> Found:
    """I13: one child for each command; the parent is told what it came to, and leaves none behind when it fails."""
    outcomes = _child_outcomes(evidence)
    ends = {change.run: change.at for change in evidence.run_changes if change.status >= COMPLETED}
    begun: dict[str, float] = defaultdict(float)
    for (run, *_), lines in evidence.told["enter"].items():
        begun[run] = max(begun[run], *(line["t"] for line in lines))
    for parent, kids in evidence.children.items():
        row = evidence.by_id.get(parent)
        if row is None:
            yield Violation("I13", parent, "its children are there, and it is not")
            continue
        # A pass has children of its own.
        of_pass = parent in evidence.passes
        for (key, _), count in Counter((kid.parent_key, kid.text if of_pass else "") for kid in kids).items():
            if count > 1:
                yield Violation("I13", parent, f"{row.name} has {count} children for {key}")
        for kid in kids:
            told = outcomes.get(kid.run)
            if told is not None:
                yield from _told_right(kid, told)
            # One that waits for a claim, as a suspect may for long, does nothing meanwhile.
            if row.status in (FAILED, CANCELLED) and not kid.detached and kid.run in begun and parent in ends:
                end, last = ends[parent], begun[kid.run]
                after = last - end - evidence.outage(end, last)
                if after > 2 * evidence.lease + 3.0 and kid.status == COMPLETED:
                    yield Violation("I13", kid.run, f"it went on for {after:.1f} s under a parent that had ended")


def _child_outcomes(evidence: Evidence) -> dict[str, EntryRow]:
    """What parents were told of each child, by commands that wait for it."""
    kids: dict[Call, str] = {}
    told: dict[str, EntryRow] = {}
    for entry, segment in evidence.segments():
        call = (entry.run, entry.key, segment)
        if entry.kind == CHILD:
            kids[call] = json.loads(entry.value or "null")
        elif entry.kind == OUTCOME and call in kids:
            told[kids[call]] = entry
    return told


def _told_right(kid: RunRow, told: EntryRow) -> Found:
    value = json.loads(told.value or "null")
    if told.status == VALUE:
        if isinstance(value, dict) and value.get("run_id") == kid.run:
            return  # it was only started
        if kid.status != COMPLETED or value != kid.output:
            yield Violation("I13", kid.run, f"its parent was told {value!r}, and it came to {kid.output!r}")
    elif kid.status == COMPLETED:
        yield Violation("I13", kid.run, "its parent was told that it failed, and it completed")


# I14


def crash_budget(evidence: Evidence) -> Found:
    """I14: a run that kills its workers does so a bounded number of times, and no other is taken for it."""
    deaths = Counter(line["run"] for line in evidence.lines if line["e"] == "die")
    for run, count in deaths.items():
        if count > DEATHS:
            yield Violation("I14", run, f"it ended {count} workers")
    for row in evidence.runs:
        poisoned = row.status == FAILED and (row.error or {}).get("type") == "PoisonRun"
        if poisoned and row.name != "poison" and not unlucky(evidence, row.run):
            yield Violation("I14", row.run, f"{row.name} was taken for poison after {row.recoveries} recoveries")
        if poisoned and row.recoveries < DEATHS:
            yield Violation("I14", row.run, f"{row.name} was given up after {row.recoveries} recoveries")


def unlucky(evidence: Evidence, run: str) -> bool:
    """Whether the plan killed every worker of this run, so often that the engine had to take it for poison."""
    killed = {kill.who for kill in evidence.kills}
    lost = [change.owner_before for change in evidence.changes_of.get(run, ()) if change.owner_before is not None]
    lost = [owner for owner in lost if owner in evidence.sessions][-DEATHS - 1 : -1]  # the last one gave it up
    return len(lost) == DEATHS and all(evidence.sessions[owner].who in killed for owner in lost)
