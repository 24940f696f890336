"""The report of a run of the harness: as JSON for machines, as a Markdown page for people."""

from __future__ import annotations

import json
import platform
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import flowgen
from tests.chaos import checker
from tests.chaos.evidence import COMPLETED, FAILED, Evidence
from tests.chaos.harness import Outcome

BUCKETS = (0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0)
MEANS = {
    "I1": "a start that was accepted is one run; one that was refused is none; one nobody knows of at most one",
    "I2": "every run ends, once, and stays so",
    "I3": "what it ends with is the pure function of its input",
    "I4": "a call has one outcome, which is never changed and never deleted",
    "I5": "what a handler was sent, in any process, is what is stored",
    "I6": "a Transaction took effect once if its value is stored, else not at all",
    "I7": "a stored value had a call that gave it; a call comes again only when it was interrupted",
    "I8": "an at-most-once call is made once for each attempt, and reported when it was interrupted",
    "I10": "a tick of a schedule starts one run; a schedule that was taken away is gone",
    "I18": "every stored history replays to the stored result",
}


def summary(outcome: Outcome, server_version: str) -> dict[str, Any]:
    """The report as data."""
    evidence = outcome.evidence
    kills = Counter(fault["action"] for fault in outcome.faults)
    taken = takeovers(evidence, outcome.faults)
    violations = {name: len(found) for name, found in outcome.violations.items()}
    return {
        "seed": outcome.plan.seed,
        "plan": outcome.plan.hash,
        "versions": {
            "flowgen": getattr(flowgen, "__version__", "0.1.0"),
            "python": platform.python_version(),
            "postgresql": server_version,
        },
        "lease": outcome.plan.lease,
        "seconds": round(outcome.seconds, 1),
        "drained": outcome.drained,
        "drain_seconds": round(outcome.drain_seconds, 1),
        "kills": {
            "workers": kills["worker"],
            "postgres": kills["postgres"],
            "supervisors": kills["supervisor"],
            "hit an open call": sum(bool(each) for each in open_calls(evidence).values()),
            "anchored to progress": sum(fault["anchor"] == "progress" for fault in outcome.faults),
        },
        "died by themselves": len(outcome.died),
        "stopped badly": outcome.late,
        "counts": counts(evidence),
        "takeover": {unit: histogram(times) for unit, times in sorted(taken.items())},
        "violations": violations,
        "verdict": "holds" if not any(violations.values()) and outcome.drained else "broken",
    }


def counts(evidence: Evidence) -> dict[str, int]:
    """How much of everything there was."""
    said = Counter(start["said"] for start in evidence.starts)
    logs = [line for line in evidence.lines if line["e"] == "log"]
    entered = sum(len(lines) for lines in evidence.told["enter"].values())
    return {
        "starts accepted": said["ok"],
        "starts refused": said["failed"],
        "starts unknown": said["unknown"],
        "runs": len(evidence.runs),
        "completed": sum(row.status == COMPLETED for row in evidence.runs),
        "failed as expected": sum(row.status == FAILED for row in evidence.runs),
        "cancelled as expected": sum(row.status > FAILED for row in evidence.runs),
        "outcomes": sum(len(found) for found in evidence.outcomes.values()),
        "witness lines": len(evidence.lines),
        "calls of functions": entered,
        "calls that came again": sum(1 for _ in checker.again(evidence)),
        "calls open at a kill": sum(map(len, open_calls(evidence).values())),
        "at-most-once calls": sum(
            len(lines) for lines in evidence.told["enter"].values() if lines[0].get("once")
        ),
        "at-most-once calls interrupted": sum(
            '"StepInterrupted"' in (found[0].value or "") for found in evidence.outcomes.values()
        ),
        "transactional effects": sum(evidence.ledger.values()),
        "leases lost by live workers": sum("lease is over" in line["text"] for line in logs),
        "runs recovered": sum(row.recoveries > 0 for row in evidence.runs),
        "warnings of workers": sum(line["level"] == "WARNING" for line in logs),
        "errors of workers": sum(line["level"] not in ("WARNING",) for line in logs),
    }  # fmt: skip


def open_calls(evidence: Evidence) -> dict[str, set[tuple[str, str, int]]]:
    """What each killed worker had begun and not ended."""
    found: dict[str, set[tuple[str, str, int]]] = {who: set() for who in evidence.killed_at}
    for line in evidence.lines:
        calls = found.get(line["who"])
        if calls is None or "key" not in line:
            continue
        call = (line["run"], line["key"], line["seg"])
        if line["e"] == "enter":
            calls.add(call)
        elif line["e"] in ("exit", "raise"):
            calls.discard(call)
    return found


def takeovers(evidence: Evidence, faults: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Seconds from a kill until another process goes on with a run of which a call was open, by kind of unit."""
    units = {fault["who"]: fault["unit"].partition("-")[0] for fault in faults if fault["who"]}
    by_run: dict[str, list[tuple[float, str]]] = {}
    for line in evidence.lines:
        if "run" in line:
            by_run.setdefault(line["run"], []).append((line["t"], line["who"]))
    found: dict[str, list[float]] = {}
    for who, calls in open_calls(evidence).items():
        at = evidence.killed_at[who]
        for run in {call[0] for call in calls}:
            after = [t for t, other in by_run[run] if t > at and other != who]
            if after:
                found.setdefault(units[who], []).append(min(after) - at)
    return found


def histogram(times: list[float]) -> dict[str, Any]:
    ordered = sorted(times)
    bins = Counter(next((f"<= {edge:g} s" for edge in BUCKETS if time <= edge), "more") for time in ordered)
    return {
        "count": len(ordered),
        "p50": round(statistics.median(ordered), 2),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 2),
        "most": round(ordered[-1], 2),
        "bins": {name: bins[name] for name in [*(f"<= {edge:g} s" for edge in BUCKETS), "more"] if bins[name]},
    }


def page(report: dict[str, Any]) -> str:
    """The Markdown page."""
    kills, versions = report["kills"], report["versions"]
    text = [
        "# Chaos report",
        "",
        "`make chaos` kills workers and the database server with SIGKILL at random moments, over every command, and"
        " then compares what is stored with what the processes themselves wrote down outside of the engine. This page"
        " is its last full run. Nothing here is measured by flowgen itself.",
        "",
        f"Seed {report['seed']}, plan `{report['plan']}`, lease {report['lease']:g} s, flowgen {versions['flowgen']},"
        f" Python {versions['python']}, PostgreSQL {versions['postgresql']}.",
        "",
        f"**{kills['workers']} workers, {kills['postgres']} servers and {kills['supervisors']} supervisors were killed"
        f" in {report['seconds'] / 60:.1f} minutes.** {kills['hit an open call']} of the workers were in the middle of"
        f" a function. Everything had ended {report['drain_seconds']:g} s after the last start.",
        "",
        "| invariant | | verdict |",
        "| --- | --- | --- |",
    ]
    for name, count in report["violations"].items():
        verdict = "holds" if not count else f"**broken** {count} times"
        text.append(f"| {name} | {MEANS[name]} | {verdict} |")
    text += ["", "| count | |", "| --- | ---: |"]
    text += [f"| {name} | {count:,} |" for name, count in report["counts"].items()]
    text.append(f"| workers that died by themselves | {report['died by themselves']} |")
    text += [
        "",
        "Time from a kill until another process went on with a run of which a function was open. A plain worker's runs"
        " go on when its lease ends; a supervised one's as soon as its supervisor sees the death.",
        "",
    ]
    for unit, times in report["takeover"].items():
        text += [
            f"**{unit}**: {times['count']} runs, p50 {times['p50']} s, p99 {times['p99']} s, most {times['most']} s",
            "",
            "| time | runs |",
            "| --- | ---: |",
            *(f"| {name} | {count} |" for name, count in times["bins"].items()),
            "",
        ]
    return "\n".join(text).rstrip() + "\n"


def save(report: dict[str, Any], folder: Path, markdown: Path | None) -> None:
    """`report.json` in the folder of the run; with `markdown` the page, and the JSON beside it."""
    text = json.dumps(report, indent=1) + "\n"
    (folder / "report.json").write_text(text, encoding="utf-8")
    if markdown is not None:
        markdown.write_text(page(report), encoding="utf-8")
        markdown.with_suffix(".json").write_text(text, encoding="utf-8")
