"""`python -m tests.chaos`: carry out a plan of faults and say which invariants hold. Ends with 1 when one does not."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs

from tests.chaos import report, shrink
from tests.chaos.harness import Harness, Outcome
from tests.chaos.plan import GATE, NIGHTLY, Plan, Size, make

SIZES = {"gate": GATE, "nightly": NIGHTLY}
FLEETS = {"gate": (3, 1, 1), "nightly": (4, 1, 2)}
"""Plain processes, supervisors with two each, plain ones behind a proxy."""


def main() -> int:
    given = _arguments()
    if given.bug or given.bugs:
        from tests.chaos import bugs

        return bugs.run(list(bugs.BUGS) if given.bugs else [given.bug], given.folder, given.report)
    plans = [Plan.load(Path(given.plan))] if given.plan else [make(seed, _size(given)) for seed in _seeds(given)]
    reports: list[dict[str, Any]] = []
    good = True
    for plan in plans:
        folder = Path(given.folder) if given.folder else Path(tempfile.mkdtemp(prefix="flowgen-chaos-"))
        folder = folder / f"seed-{plan.seed}" if given.folder and len(plans) > 1 else folder
        outcome = Harness(folder, plan, **_fleet(given), minutes=given.minutes, say=_sayer()).run()
        said = report.summary(outcome)
        reports.append(said)
        _tell(outcome, said)
        good = good and outcome.holds
        report.save(folder / "chaos-report.md", seeds=reports)
        if given.report:
            report.save(Path(given.report), seeds=reports)
        if outcome.holds and not given.folder and not given.keep:
            shutil.rmtree(folder)
        else:
            print(f"everything is in {folder}")
        if given.shrink and not outcome.holds:
            shrink.shrink(plan, outcome, folder, _fleet(given), _sayer())
    return 0 if good else 1


def _sayer() -> Callable[[str], None]:
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:6.1f}] {text}", flush=True)

    return say


def _tell(outcome: Outcome, said: dict[str, Any]) -> None:
    for key, value in said.items():
        print(f"{key}: {value}")
    for found in outcome.violations.values():
        for each in found[:15]:
            print(f"{each.invariant} {each.run} {each.what}")
    for dead in outcome.died[:10]:
        print(f"{dead['unit']} died with {dead['code']} at {dead['t']:.3f}:\n{dead['log']}")
    if outcome.stuck:
        print(f"not drained:\n{outcome.stuck}")


def _size(given: argparse.Namespace) -> Size:
    size = SIZES[given.size]
    changes = {name: getattr(given, name) for name in _COUNTS if getattr(given, name) is not None}
    if given.defaults:
        changes |= {"lease": 15.0, "heartbeat": 5.0, "poll": 1.0}
    return attrs.evolve(size, **changes)


def _fleet(given: argparse.Namespace) -> dict[str, int]:
    plain, supervised, proxied = FLEETS[given.size]
    return {
        "plain": plain if given.plain is None else given.plain,
        "supervised": supervised if given.supervised is None else given.supervised,
        "proxied": proxied if given.proxied is None else given.proxied,
    }


def _seeds(given: argparse.Namespace) -> list[int]:
    if given.seeds:
        return [int(seed) for seed in given.seeds.replace(",", " ").split()]
    return [given.seed if given.seed is not None else random.SystemRandom().randrange(1 << 31)]


_COUNTS: dict[str, type] = {
    field.name: float if field.type in (float, "float") else int
    for field in attrs.fields(Size)
    if field.name != "flows"
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="gate", help="how much of everything, unless said otherwise")
    parser.add_argument("--seed", type=int, help="of the plan; a random one unless given")
    parser.add_argument("--seeds", help="several, one after the other, in one report: --seeds 1,2,3")
    for name, kind in _COUNTS.items():
        parser.add_argument(f"--{name}", type=kind)
    parser.add_argument("--defaults", action="store_true", help="lease, heartbeat and poll as in production")
    parser.add_argument("--minutes", type=float, default=20, help="the plan is cut off after so many")
    parser.add_argument("--plain", type=int, help="worker processes by themselves")
    parser.add_argument("--proxied", type=int, help="how many of them connect through a proxy")
    parser.add_argument("--supervised", type=int, help="supervisors with two worker processes")
    parser.add_argument("--plan", help="carry out this plan.json")
    parser.add_argument("--shrink", action="store_true", help="after a violation: leave out faults one by one")
    parser.add_argument("--folder", help="where everything is written, and stays")
    parser.add_argument("--keep", action="store_true", help="keep the folder of a run that went well too")
    parser.add_argument("--report", help="write the Markdown page here, and the JSON beside it")
    parser.add_argument("--bug", help="carry out the plan that is to catch this seeded bug (M1 to M20)")
    parser.add_argument("--bugs", action="store_true", help="all of them, with a table of what caught them")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
