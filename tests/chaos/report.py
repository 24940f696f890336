"""The report of runs of the harness: as JSON for machines, as a Markdown page for people. A seed is a row."""

from __future__ import annotations

import json
import platform
from collections import Counter
from pathlib import Path
from typing import Any

import flowgen
from tests.chaos import checker, timing
from tests.chaos.evidence import CANCELLED, COMPLETED, FAILED, Evidence
from tests.chaos.harness import Outcome

BUCKETS = (0.1, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0, 15.0, 20.0, 30.0, 60.0)
MEANS = {
    "I1": "a start that was accepted is one run; one that was refused is none; one nobody knows of at most one",
    "I2": "every run ends, once, and stays so",
    "I3": "what it ends with is the pure function of its input",
    "I4": "a call has one outcome, which is never changed, and deleted with its segment or pass only",
    "I5": "what a handler was sent, in any process, is what is stored",
    "I6": "a Transaction took effect once if its value is stored, else not at all",
    "I7": "a stored value had a call that gave it; a call comes again only when it was interrupted",
    "I8": "an at-most-once call is made once for each attempt, and reported when it was interrupted",
    "I9": "a sleep is armed once, never ends early, and is late by the poll and a second at most (p99)",
    "I10": "a tick of a schedule starts one run; none is lost, none is made up",
    "I11": "no write of a session lands once it is over",
    "I12": "a run has one owner at a time; a worker that lives keeps its lease",
    "I13": "a command has one child; the parent is told what it came to, and leaves none behind when it fails",
    "I14": "a run that kills its workers does so five times at most, and no other is taken for it",
    "I15": "when all has ended nothing is held: no lease, lock, connection, transaction or process",
    "I16": "runs of the dead go on after the lease, all others when the server is back",
    "I17": "indexes, constraints and pages are whole",
    "I18": "every stored history replays to the stored result",
    "I19": "each warning is of a listed class; no traceback, no password",
    "I20": "no run that could be claimed waits for longer than two leases and five seconds",
    "I21": "what has its outcome, or was skipped, is not called any more; the first to end wins a Race, losers end",
    "I22": "what succeeded in a run that failed or was cancelled is undone once, the latest first; else nothing is",
    "I23": "each waiter is told each signal and event once, in order; a trigger starts one run; a token counts once",
    "I24": "the passes of a run that goes on as new follow each other; none is lost, none comes again",
    "I25": 'with durability="checkpoint" a commit takes all steps along that were told before it',
}
FAULTS = {
    "workers": "worker SIGKILL", "stop": "worker SIGSTOP", "postgres": "server SIGKILL", "backend": "backend SIGKILL",
    "terminate": "backend terminated", "ack": "answer lost", "reset": "connection reset", "blackhole": "blackhole",
    "rolling": "rolling restart", "supervisor": "supervisor SIGKILL",
}  # fmt: skip


def summary(outcome: Outcome) -> dict[str, Any]:
    """One run of the harness as data."""
    evidence = outcome.evidence
    kills = Counter(fault["action"] for fault in outcome.faults)
    units = {fault["who"]: (fault["unit"] or "").partition("-")[0] for fault in outcome.faults if fault["who"]}
    taken: dict[str, list[float]] = {}
    for who, seconds, suspect in timing.takeovers(evidence):
        taken.setdefault("suspect" if suspect else units.get(who, "by its own hand"), []).append(seconds)
    violations = {name: len(found) for name, found in outcome.violations.items()}
    return {
        "seed": outcome.plan.seed,
        "plan": outcome.plan.hash,
        "versions": {
            "flowgen": getattr(flowgen, "__version__", "0.1.0"),
            "python": platform.python_version(),
            "postgresql": outcome.server,
        },
        "settings": {"lease": outcome.plan.lease, "heartbeat": outcome.plan.heartbeat, "poll": outcome.plan.poll},
        "seconds": round(outcome.seconds, 1),
        "checked in": round(outcome.checked_seconds, 1),
        "drained": outcome.drained,
        "drain_seconds": round(outcome.drain_seconds, 1),
        "faults": {FAULTS[action]: kills[action] for action in FAULTS},
        "pace": round(evidence.pace, 2),
        "anchored to progress": sum(fault["anchor"] == "progress" for fault in outcome.faults),
        "died by themselves": len(outcome.died),
        "stopped badly": outcome.late,
        "counts": counts(evidence),
        "answers lost": outcome.unknown,
        "takeover": {unit: histogram(times) for unit, times in sorted(taken.items())},
        "server back to first write": histogram(timing.returns(evidence)),
        "graceful stop": histogram([stop["seconds"] for stop in evidence.stops]),
        "wait for a claim": histogram([seconds for _, seconds in timing.waits(evidence)]),
        "storage": {what: found for what, found in evidence.storage.items() if isinstance(found, str)},
        "violations": violations,
        "verdict": "holds" if outcome.holds else "broken",
    }


def counts(evidence: Evidence) -> dict[str, int]:
    """How much of everything there was."""
    said = Counter(start["said"] for start in evidence.starts)
    logs = [line for line in evidence.lines if line["e"] == "log"]
    entered = sum(len(lines) for lines in evidence.told["enter"].values())
    interrupted = ('"StepInterrupted"' in (found[0].value or "") for found in evidence.outcomes.values())
    return {
        "starts accepted": said["ok"],
        "starts refused": said["failed"],
        "starts unknown": said["unknown"],
        "cancels": len(evidence.cancels),
        "runs": len(evidence.runs),
        "terminal": sum(row.status >= COMPLETED for row in evidence.runs),
        "completed": sum(row.status == COMPLETED for row in evidence.runs),
        "failed as expected": sum(row.status == FAILED for row in evidence.runs),
        "cancelled as expected": sum(row.status == CANCELLED for row in evidence.runs),
        "ticks of schedules": sum((row.trigger or {}).get("kind") == "cron" for row in evidence.runs),
        "outcomes": sum(len(found) for found in evidence.outcomes.values()),
        "witness lines": len(evidence.lines),
        "executions": entered,
        "extra executions": sum(1 for _ in checker.again(evidence)),
        "at-most-once calls interrupted": sum(interrupted),
        "transactional effects": sum(evidence.ledger.values()),
        "claims": sum(change.owner is not None and change.owner_before is None for change in evidence.run_changes),
        "sessions": len(evidence.sessions),
        "sessions lost by live workers": sum("lease is over" in line["text"] for line in logs),
        "stale writes refused": sum(line["e"] == "refused" for line in evidence.lines),
        "runs recovered": len({change.run for change in evidence.run_changes if change.recoveries}),
        "suspects": len({change.run for change in evidence.run_changes if change.recoveries >= 2}),
        "taken for poison after five kills": sum(
            row.name != "poison" and row.status == FAILED and row.error["type"] == "PoisonRun" for row in evidence.runs
        ),
        "workers that poison ended": sum(line["e"] == "die" for line in evidence.lines),
        "stalls of the machine": sum(span.kind == "stall" and span.who is None for span in evidence.spans),
        "warnings": sum(line["level"] == "WARNING" for line in logs),
        "errors": sum(line["level"] != "WARNING" for line in logs),
    }


def histogram(times: list[float]) -> dict[str, Any]:
    if not times:
        return {"count": 0}
    bins = Counter(next((f"<= {edge:g} s" for edge in BUCKETS if time <= edge), "more") for time in times)
    return {
        "count": len(times),
        **{f"p{share}": round(timing.percentile(times, share / 100), 2) for share in (50, 95, 99)},
        "most": round(max(times), 2),
        "bins": {name: bins[name] for name in [*(f"<= {edge:g} s" for edge in BUCKETS), "more"] if bins[name]},
    }


def page(reports: list[dict[str, Any]], caught: list[dict[str, Any]] | None = None) -> str:
    """The Markdown page."""
    last = reports[-1]
    versions, settings = last["versions"], last["settings"]
    broken = Counter[str]()
    for each in reports:
        broken.update(each["violations"])
    text = [
        "# Chaos report",
        "",
        "`make chaos` starts real worker processes, clients and a server, kills, stops and cuts them off at random"
        " moments after a plan that a seed decides, and then compares what is stored with what the processes themselves"
        " wrote down outside of the engine. The same seed is the same plan; the processes run freely, so what comes of"
        " it is only likely to be the same. Nothing here is measured by flowgen itself.",
        "",
        f"flowgen {versions['flowgen']}, Python {versions['python']}, PostgreSQL {versions['postgresql']}; lease"
        f" {settings['lease']:g} s, heartbeat {settings['heartbeat']:g} s, poll {settings['poll']:g} s.",
        "",
        "## Seeds",
        "",
        "| seed | plan | runs | outcomes | faults | seconds | pace | verdict |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for each in reports:
        faults, many = sum(each["faults"].values()), each["counts"]
        text.append(
            f"| {each['seed']} | `{each['plan']}` | {many['runs']:,} | {many['outcomes']:,} | {faults} |"
            f" {each['seconds']:g} | {each['pace']:g} | {each['verdict']} |"
        )
    text += ["", "Pace: 1 on a machine with nothing else to do; 2 where others wanted as much of it again."]
    text += ["", "## Invariants", "", "| invariant | | verdict |", "| --- | --- | --- |"]
    for name, count in broken.items():
        verdict = "holds" if not count else f"**broken** {count} times"
        asked = [str(each["seed"]) for each in reports if name in each["violations"]]
        if len(asked) < len(reports):
            verdict += f"; looked for in seed {', '.join(asked)} only"
        text.append(f"| {name} | {MEANS[name]} | {verdict} |")
    text += ["", *(f"{what}: {why}." for what, why in last["storage"].items())]
    text += _columns("Faults", "faults", reports) + _columns("Counts", "counts", reports)
    text += ["", "## Times", "", "What an outage of the server or of the machine took is left out."]
    text += [
        "",
        "| seconds | seed | count | p50 | p95 | p99 | most |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in reports:
        found = {f"kill to next claim, {unit}": times for unit, times in each["takeover"].items()}
        for name in ("server back to first write", "graceful stop", "wait for a claim"):
            found[name] = each[name]
        for name, times in found.items():
            if times["count"]:
                row = " | ".join(str(times[key]) for key in ("count", "p50", "p95", "p99", "most"))
                text.append(f"| {name} | {each['seed']} | {row} |")
    if caught:
        how = "`make chaos-bugs` puts each of these into the engine of the harness, and looks what catches it."
        text += ["", "## Seeded bugs", "", how]
        text += ["", *bug_table(caught)]
    return "\n".join(text).rstrip() + "\n"


def _columns(title: str, key: str, reports: list[dict[str, Any]]) -> list[str]:
    """A table with a column for each seed."""
    text = ["", f"## {title}", "", "| | " + " | ".join(f"seed {each['seed']}" for each in reports) + " |"]
    text.append("| --- | " + " | ".join("---:" for _ in reports) + " |")
    return text + [
        f"| {name} | " + " | ".join(f"{each[key].get(name, 0):,}" for each in reports) + " |"
        for name in reports[-1][key]
    ]


def bug_table(caught: list[dict[str, Any]]) -> list[str]:
    """What the harness finds of bugs that were put into the engine."""
    text = ["| bug | | to be caught by | caught by | seconds |", "| --- | --- | --- | --- | ---: |"]
    for bug in caught:
        found = ", ".join(bug["caught by"]) or "**nothing**"
        text.append(f"| {bug['bug']} | {bug['what']} | {', '.join(bug['wanted'])} | {found} | {bug['seconds']:g} |")
    return text


def save(
    markdown: Path, *, seeds: list[dict[str, Any]] | None = None, bugs: list[dict[str, Any]] | None = None
) -> None:
    """The page, and the JSON beside it. What is not given stays as it was there."""
    place = markdown.with_suffix(".json")
    found = json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}
    found = {"seeds": found.get("seeds", []), "bugs": found.get("bugs", [])}
    found |= {name: given for name, given in (("seeds", seeds), ("bugs", bugs)) if given is not None}
    place.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if found["seeds"]:
        markdown.write_text(page(found["seeds"], found["bugs"]), encoding="utf-8")
