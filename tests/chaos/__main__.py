"""`python -m tests.chaos`: carry out a plan of kills and say which invariants hold. Ends with 1 when one does not."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from flowgen.postgres import embedded
from tests.chaos import report
from tests.chaos.harness import Harness, Outcome
from tests.chaos.plan import Plan, make


def main() -> int:
    given = _arguments()
    began = time.monotonic()
    folder = Path(given.folder) if given.folder else Path(tempfile.mkdtemp(prefix="flowgen-chaos-"))
    if given.plan:
        plan = Plan.load(Path(given.plan))
    else:
        seed = given.seed if given.seed is not None else random.SystemRandom().randrange(1 << 31)
        plan = make(
            seed,
            worker_kills=given.workers_kills,
            postgres_kills=given.postgres_kills,
            runs=given.runs,
            lease=_seconds(given.lease),
            gap=given.gap,
        )

    def say(text: str) -> None:
        print(f"[{time.monotonic() - began:6.1f}] {text}", flush=True)

    harness = Harness(folder, plan, plain=given.plain, supervised=given.supervised, minutes=given.minutes, say=say)
    outcome = harness.run()
    version = embedded.binaries().parent.name.removeprefix("pginstall")
    said = report.summary(outcome, version)
    report.save(said, folder, Path(given.report) if given.report else None)
    _tell(outcome, said)
    good = said["verdict"] == "holds" and not outcome.died and not outcome.late
    if good and not given.folder and not given.keep:
        shutil.rmtree(folder)
    else:
        print(f"everything is in {folder}")
    return 0 if good else 1


def _tell(outcome: Outcome, said: dict[str, object]) -> None:
    for key, value in said.items():
        print(f"{key}: {value}")
    for found in outcome.violations.values():
        for each in found[:15]:
            print(f"{each.invariant} {each.run} {each.what}")
    for dead in outcome.died[:10]:
        print(f"{dead['unit']} died with {dead['code']} at {dead['t']:.3f}:\n{dead['log']}")
    if outcome.stuck:
        print(f"not drained:\n{outcome.stuck}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--workers-kills", type=int, default=200)
    parser.add_argument("--postgres-kills", type=int, default=20)
    parser.add_argument("--runs", type=int, default=1500)
    parser.add_argument("--lease", default="15s")
    parser.add_argument("--gap", type=float, default=5.5, help="seconds between two moments of killing, on average")
    parser.add_argument("--minutes", type=float, default=20, help="the plan is cut off after so many")
    parser.add_argument("--plain", type=int, default=3, help="worker processes by themselves")
    parser.add_argument("--supervised", type=int, default=1, help="supervisors with two worker processes")
    parser.add_argument("--plan", help="carry out this plan.json")
    parser.add_argument("--folder", help="where everything is written, and stays")
    parser.add_argument("--keep", action="store_true", help="keep the folder of a run that went well too")
    parser.add_argument("--report", help="write the Markdown page here, and the JSON beside it")
    return parser.parse_args()


def _seconds(text: str) -> float:
    return float(text.removesuffix("s"))


if __name__ == "__main__":
    sys.exit(main())
