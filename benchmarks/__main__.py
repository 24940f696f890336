"""The command: `python -m benchmarks [--only W2,W3] [--quick] [--cliffs]`; see `make bench`.

A full run writes docs/performance.md, its chart and its numbers; the two halves of the report (workloads and cliffs)
are kept by each other's runs. A quick or a partial run writes the same into build/benchmarks/ and leaves docs alone.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import attrs

from benchmarks.cases import CASES
from benchmarks.chart import svg
from benchmarks.cliffs import cliffs
from benchmarks.facts import facts
from benchmarks.goals import GOALS
from benchmarks.measure import staged
from benchmarks.pgbench import limits
from benchmarks.report import markdown, number
from benchmarks.sizes import FULL, QUICK, Sizes

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
BUILD = ROOT / "build/benchmarks"
NAME = "performance"
_UNITS = {goal.key: goal.unit for goal in GOALS}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="How fast flowgen is on this machine.")
    parser.add_argument("--only", default="", help=f"some of {', '.join(CASES)}, with commas")
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: shows that everything works")
    parser.add_argument("--cliffs", action="store_true", help="what slows W2 and W3 down, instead of the workloads")
    parser.add_argument("--rounds", type=int, default=None, help="of everything; 3 unless quick")
    parser.add_argument("--concurrency", type=int, default=None, help="of the workers; flowgen's default unless given")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the server and the workers are stopped
    for name in [each for each in os.environ if each.startswith("FLOWGEN_")]:
        del os.environ[name]  # neither another database nor other settings
    sizes = QUICK if given.quick else FULL
    if given.rounds is not None:
        sizes = attrs.evolve(sizes, rounds=given.rounds)
    wanted = _wanted(parser, given.only)
    if given.cliffs:
        data: dict[str, Any] = {"cliffs": _cliffs(sizes, given.concurrency)}
    else:
        data = _workloads(sizes, wanted, given.concurrency)
    partial = given.quick or (bool(given.only) and not given.cliffs)
    print(_written(BUILD if partial else DOCS, data, keep=not partial))


def _wanted(parser: argparse.ArgumentParser, only: str) -> list[str]:
    """The workloads asked for, in their order; W10 is a part of W2 and brings it along."""
    known = {name.lower(): name for name in CASES}
    asked = [each.strip().lower() for each in only.split(",") if each.strip()]
    unknown = [each for each in asked if each not in known]
    if unknown:
        parser.error(f"there is no workload {', '.join(unknown)}: give some of {', '.join(CASES)}")
    if "w10" in asked:
        asked.append("w2")
    return [name for name in CASES if not asked or name.lower() in asked]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _workloads(sizes: Sizes, wanted: list[str], concurrency: int | None) -> dict[str, Any]:
    data: dict[str, Any] = {"facts": {}, "sizes": attrs.asdict(sizes), "rounds": []}
    for at in range(sizes.rounds):
        with staged(concurrency, rest=sizes.warm_seconds) as stage:
            data["facts"] = data["facts"] or facts(stage)
            found: dict[str, Any] = {"limits": limits(stage, seconds=sizes.pgbench_seconds, rows=sizes.drain)}
            found |= {"values": {}, "costs": {}}
            for name in wanted:
                begun = time.perf_counter()
                stage.clear()
                outcome = CASES[name](stage, sizes)
                stage.check()
                found["values"] |= outcome.values
                if outcome.cost is not None:
                    found["costs"][name] = attrs.asdict(outcome.cost)
                shown = ", ".join(
                    f"{key} {number(value)}{_UNITS.get(key, '')}" for key, value in outcome.values.items()
                )
                _say(f"{at + 1}/{sizes.rounds} {name}: {shown} [{time.perf_counter() - begun:.1f} s]")
            data["rounds"].append(found)
    return data


def _cliffs(sizes: Sizes, concurrency: int | None) -> dict[str, Any]:
    data: dict[str, Any] = {"facts": {}, "sizes": attrs.asdict(sizes), "rounds": []}
    for _ in range(sizes.rounds):
        with staged(concurrency, rest=sizes.warm_seconds) as stage:
            data["facts"] = data["facts"] or facts(stage)
            data["rounds"].append(cliffs(stage, sizes, _say))
    return data


def _written(folder: Path, data: dict[str, Any], *, keep: bool) -> str:
    """Write the report into `folder`, with what is there of the other half if it is to be kept."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = folder / f"{NAME}.json"
    if keep and raw.exists():
        data = {**json.loads(raw.read_text(encoding="utf-8")), **data}
    text = markdown(data, f"{NAME}.svg" if data.get("rounds") else None)
    raw.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    (folder / f"{NAME}.md").write_text(text, encoding="utf-8")
    if data.get("rounds"):
        (folder / f"{NAME}.svg").write_text(svg(data["rounds"]), encoding="utf-8")
    _say(f"written to {folder / NAME}.md")
    return text


if __name__ == "__main__":
    main()
