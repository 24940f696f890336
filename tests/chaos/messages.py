"""The invariants of what runs are told, and of how they go on: I23 messages, I24 passes, I25 steps ahead."""

from __future__ import annotations

import re
from collections import Counter, defaultdict

from tests.chaos.evidence import COMPLETED, OUTCOME, VALUE, Evidence, Found, RunRow, Violation

FUZZ = 0.5
"""Seconds for which a process may say something of a pass that another one has ended."""
BARRIERS = ("book",)
"""Of `ahead`: names of commands that commit what was told before them."""


def messages(evidence: Evidence) -> Found:
    """I23: whoever waits is told everything once and in order; a trigger starts one run; a token counts once."""
    for line in evidence.lines:
        if line["e"] == "heard":
            row = evidence.by_id.get(line["run"])
            wanted = line["place"] + (row.input["n"] * 100 if row is not None and line["what"] == "signal" else 0)
            if line["value"] != wanted:
                what = f"{line['what']} number {line['place']} is {line['value']}, not {wanted}"
                yield Violation("I23", line["run"], what)
    yield from _triggered(evidence)
    used: Counter[str] = Counter(line["token"] for line in evidence.lines if line["e"] == "used")
    for token, count in used.items():
        if count > 1:
            yield Violation("I23", "", f"the token {token} was used {count} times")


def _triggered(evidence: Evidence) -> Found:
    """One run of each trigger for each event that was emitted, and none for another."""
    found: Counter[tuple[str, int, int]] = Counter()
    for row in evidence.runs:
        if row.name in ("reported", "headline"):
            found[row.name, row.input["n"], row.input["k"]] += 1
    wanted: Counter[tuple[str, int, int]] = Counter()
    for row in evidence.runs:
        if row.name == "hub":
            for k in _emitted(evidence, row):
                wanted["reported", row.input["n"], k] += 1
                if k == 0:
                    wanted["headline", row.input["n"], k] += 1
    unsure = {row.input["n"] for row in evidence.runs if row.name == "hub" and row.status != COMPLETED}
    for each in found | wanted:
        # What a function did outside is there, also when its outcome did not come to be.
        if found[each] != wanted[each] and not (found[each] <= 1 and each[1] in unsure and not wanted[each]):
            name, n, k = each
            yield Violation("I23", "", f"event {k} of {n} started {found[each]} runs of {name}, not {wanted[each]}")


def _emitted(evidence: Evidence, row: RunRow) -> list[int]:
    return [
        int(entry.key.removeprefix("emit"))
        for entry in evidence.history.get(row.run, ())
        if entry.kind == OUTCOME and entry.status == VALUE and re.fullmatch(r"emit\d+", entry.key)
    ]


def passes(evidence: Evidence) -> Found:
    """I24: the passes of a run follow each other; none is lost, and none goes on once the next one has begun."""
    said: dict[str, dict[int, list[dict[str, object]]]] = defaultdict(lambda: defaultdict(list))
    for line in evidence.lines:
        if line["e"] == "pass":
            said[line["run"]][line["turn"]].append(line)
    for row in evidence.runs:
        if row.name != "rounds":
            continue
        ended, last = evidence.passes.get(row.run, []), row.input.get("turn", 0)
        if len(ended) != last:
            yield Violation("I24", row.run, f"{len(ended)} passes have ended, and it is in pass {last}")
        turns = said[row.run]
        if turns and sorted(turns) != list(range(max(turns) + 1)):
            yield Violation("I24", row.run, f"of its passes only {sorted(turns)} have begun")
        for turn, (_, at) in enumerate(ended):
            for line in turns[turn]:
                if float(line["t"]) > at + FUZZ and not evidence.woke_too_late(line):  # type: ignore[arg-type]
                    yield Violation("I24", row.run, f"pass {turn} began again after the next one had")
            begun = min((float(line["t"]) for line in turns[turn + 1]), default=at)  # type: ignore[arg-type]
            if begun < at - FUZZ:
                yield Violation("I24", row.run, f"pass {turn + 1} began before pass {turn} had ended")


def ahead(evidence: Evidence) -> Found:
    """I25: with durability="checkpoint" whatever commits takes along all steps that were told before it."""
    for row in evidence.runs:
        if row.name != "ahead":
            continue
        waits: list[str] = []
        for entry, segment in evidence.segments_of(row.run):
            if entry.kind != OUTCOME:
                continue
            name = entry.key.partition("#")[0]
            if name in BARRIERS:
                missing = {"add", "add#2", "add#3"} - set(waits)
                if missing:
                    what = f"{entry.key} in segment {segment} was committed before {sorted(missing)}"
                    yield Violation("I25", row.run, what)
                waits.clear()
            elif entry.key == "add":
                waits = [entry.key]
            else:
                waits.append(entry.key)
