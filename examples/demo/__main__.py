"""Index 1,000 files while the worker is killed three times, then show that nothing was lost and nothing done twice.

This process only kills, watches and counts again. The work is done by worker processes (`workflow.py`), and what they
did is told by a file outside of flowgen (`witness.py`).
"""

from __future__ import annotations

import argparse
import os
import random
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import psycopg

import flowgen
from examples.demo import witness, workflow
from examples.demo.witness import Line
from flowgen.postgres import embedded

PATIENCE = 30  # seconds, after which what has not happened counts as broken
BEGAN = time.monotonic_ns()
Place = tuple[str, str, str]  # what is in flight, the body, and where: at its start, or when all is done but the commit
Recorded = dict[tuple[str, str], int]  # by run and body: when the outcome was recorded, on the monotonic clock


def say(text: str) -> None:
    print(f"[{(time.monotonic_ns() - BEGAN) / 1e9:5.1f} s] {text}", flush=True)


def choose(seed: int, batches: int) -> list[Place]:
    dice = random.Random(seed)
    bodies = {"step": "count", "transaction": "write", "child": "hash"}
    return [(what, f"{body}-{dice.randrange(batches)}", dice.choice(["start", "end"])) for what, body in bodies.items()]


@contextmanager
def server(keep: bool) -> Generator[tuple[Path, str]]:
    """A new folder, and the URL of a PostgreSQL server that is only for it."""
    folder = Path(tempfile.mkdtemp(prefix="flowgen-demo-"))
    try:
        yield folder, embedded.ensure(folder / ".flowgen", idle=60)
    finally:
        embedded.stop(folder / ".flowgen")
        if not keep:
            embedded.reset(folder / ".flowgen")
            shutil.rmtree(folder)


@contextmanager
def workers(folder: Path, url: str, alone: bool) -> Generator[Callable[[], None]]:
    """Two worker processes, supervised or each alone; gives what to call after one was killed."""
    environment = {**os.environ, "FLOWGEN_URL": url, "FLOWGEN_LEASE": "2s", "DEMO_FOLDER": str(folder)}
    command = [sys.executable, "-m", "examples.demo.workflow", "1" if alone else "2"]
    running: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        with (folder / "workers.log").open("ab") as log:
            home = Path(__file__).parents[2]
            running.append(subprocess.Popen(command, env=environment, cwd=home, stdout=log, stderr=log))

    try:
        for _ in range(2 if alone else 1):
            start()
        yield start if alone else lambda: None
    finally:
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(folder: Path, what: str, body: str, dead: set[int]) -> Line:
    """The first line of the witness that says so, of a process that lives."""
    for _ in range(PATIENCE * 200):
        fits = (x for x in witness.read(folder) if (x.what, x.body) == (what, body) and x.pid not in dead)
        if line := next(fits, None):
            return line
        time.sleep(0.005)
    raise SystemExit(f"FAILED: {body} was not {what} in {PATIENCE} s\n{(folder / 'workers.log').read_text()[-2000:]}")


def kill(folder: Path, place: Place, dead: set[int]) -> str:
    """SIGKILL the process that is at this place, and wait until another one is; gives a line of the table."""
    what, body, where = place
    held = wait_for(folder, "held", body, dead)
    os.kill(held.pid, signal.SIGKILL)
    killed_at = time.monotonic_ns()
    dead.add(held.pid)
    witness.marker(folder, body, where).unlink()
    say(f"SIGKILL of process {held.pid} at the {where} of {body}: the {what} is in flight")
    again = wait_for(folder, "begun", body, dead)
    seconds = (again.at - killed_at) / 1e9
    say(f"process {again.pid} is at {body} {seconds:.3f} s later")
    return f"{what:17} {where + ' of ' + body:18} {held.pid:7} {again.pid:14} {seconds:7.3f} s"


def when_recorded(client: flowgen.Client) -> Recorded:
    offset = time.time_ns() - time.monotonic_ns()
    return {
        (run, item.name): int(item.recorded_at.timestamp() * 1e9) - offset
        for run in ("index", "copies")
        for item in client.history(run)
        if item.kind == "outcome" and item.recorded_at is not None
    }


def repeated(lines: list[Line], recorded: Recorded) -> int:
    """How often a body began although its outcome was recorded."""
    return sum(line.what == "begun" and line.at > recorded[line.run, line.body] for line in lines)


def print_bodies(lines: list[Line], recorded: Recorded) -> None:
    groups: dict[str, list[Line]] = {}
    for line in lines:
        groups.setdefault(re.sub(r"-\d+$", "-*", line.body), []).append(line)
    print(
        "\nbody            begun = failed + cut in the body + cut before the commit + recorded    begun once recorded"
    )
    for name, group in groups.items():
        counted = Counter(line.what for line in group)
        begun, failed, finished = counted["begun"], counted["failed"], counted["finished"]
        once = len({(line.run, line.body) for line in group} & recorded.keys())
        columns = f"{begun:6} {failed:8} {begun - failed - finished:17} {finished - once:23} {once:10}"
        print(f"{name:14} {columns} {repeated(group, recorded):22}")


def broken(url: str, files: list[str], report: workflow.Report, lines: list[Line], recorded: Recorded) -> list[str]:
    """The promises that were not kept, by what the witness says and by counting again in this one process."""
    index = Counter((file, word, times) for file in files for word, times in workflow.words_of(file).items())
    with psycopg.connect(url) as conn:
        stored = Counter(conn.execute("select file, word, times from demo.posting").fetchall())
    contents = Counter(Path(file).read_bytes() for file in files)
    copies = sum(times for times in contents.values() if times > 1)
    expected = workflow.Report(len(files), sum(times for _, _, times in index), copies)
    say(f"counted again in one process: {expected.words:,} words in {len(index):,} rows, {copies} copies")
    bodies, wanted = len({(line.run, line.body) for line in lines}), 3 + 3 * -(-len(files) // workflow.BATCH)
    checks = {
        f"the run says {report}, one process counted {expected}": report == expected,
        f"{(stored - index).total()} rows are too many, {(index - stored).total()} are missing": stored == index,
        f"{bodies} bodies ran, {wanted} were to run": bodies == wanted,
        f"{repeated(lines, recorded)} bodies began after they were recorded": not repeated(lines, recorded),
    }
    return [problem for problem, kept in checks.items() if not kept]


def demo(given: argparse.Namespace) -> list[str]:
    """Run it all; the promises that were broken."""
    files = workflow.text_files(given.files)
    places = choose(given.seed, -(-len(files) // workflow.BATCH))
    say(f"seed {given.seed}: kill at " + ", ".join(f"the {where} of {body}" for _, body, where in places))
    with server(given.keep) as (folder, url), flowgen.connect(url) as client:
        mode = "each alone with a lease of 2 s" if given.alone else "under a supervisor"
        say(f"PostgreSQL runs in {folder}; index {len(files):,} files with two worker processes, {mode}")
        for _, body, where in places:
            witness.marker(folder, body, where).touch()
        dead: set[int] = set()
        kills: list[str] = []
        with workers(folder, url, given.alone) as replace:
            run = client.start(workflow.index_python.call(given.files).opts(id="index"))
            for place in places:
                kills.append(kill(folder, place, dead))
                replace()
            report = run.result(timeout=PATIENCE)
            say(f"done: {report.words:,} words in {report.files:,} files, {report.copies} of them copies")
        lines, recorded = witness.read(folder), when_recorded(client)
        problems = broken(url, files, report, lines, recorded)
        print_bodies(lines, recorded)
        print("\nkilled in flight  at                 process  taken over by     after", *kills, "", sep="\n")
        return problems


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10_000), help="chooses the places of the kills")
    parser.add_argument("--files", type=int, default=1000, help="how many files to index")
    parser.add_argument("--alone", action="store_true", help="no supervisor: a takeover waits for the lease to end")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the database and the witness")
    problems = demo(parser.parse_args())
    if problems:
        sys.exit("\n".join(["FAILED:", *problems]))
    print("OK: killed three times, nothing lost, nothing run again once it was recorded, every row written once")


if __name__ == "__main__":
    main()
