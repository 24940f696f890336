"""Where a worker's time goes: a sampler inside the worker process, and the case that asks it.

Every few milliseconds of CPU time the main thread notes which function it is in. What the threads of step functions
take is noted where the main thread waits for them meanwhile. Samples are summed by room of the project.
"""

from __future__ import annotations

import collections
import json
import signal
from pathlib import Path
from types import CodeType, FrameType

from benchmarks.measure import Outcome, Stage
from benchmarks.sizes import Sizes

__all__ = ["profile", "sample_into"]

EVERY = 0.004
"""Seconds of CPU time between two samples; the kernel's own clock is no finer."""
ROOMS = (
    ("core", "/flowgen/core/"),
    ("worker", "/flowgen/worker/"),
    ("postgres", "/flowgen/postgres/"),
    ("psycopg", "/psycopg"),
    ("asyncio", "/asyncio/"),
    ("user", "/benchmarks/"),
)
"""Name, and what the path of its files holds."""


def sample_into(path: Path) -> None:
    """Sample from the first SIGUSR1 on; the counts are in `path` after SIGUSR2."""
    counts: collections.Counter[CodeType] = collections.Counter()

    def sample(_: int, frame: FrameType | None) -> None:
        if frame is not None:
            counts[frame.f_code] += 1

    def begin(*_: object) -> None:
        counts.clear()
        signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)

    def end(*_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        found = [(code.co_filename, code.co_qualname, count) for code, count in counts.most_common()]
        path.with_suffix(".part").write_text(json.dumps(found), encoding="utf-8")
        path.with_suffix(".part").rename(path)

    signal.signal(signal.SIGPROF, sample)
    signal.signal(signal.SIGUSR1, begin)
    signal.signal(signal.SIGUSR2, end)


def room_of(file: str) -> str:
    """The room of a function's file; what is generated for a class of ours is the core's or the worker's."""
    for name, part in ROOMS:
        if part in file or part.strip("/").replace("/", ".") in file:
            return name
    return "asyncio" if file.endswith("selectors.py") else "other"


def profile(stage: Stage, sizes: Sizes) -> Outcome:
    """W2 and W3 with a sampler: the share of each room in the samples, in percent."""
    values: dict[str, float] = {}
    for key, name, count, waves in (("w2", "noop", sizes.drain, 1), ("w3", "ten", sizes.stepped, sizes.waves)):
        path = stage.folder / f"profile-{key}.json"
        with stage.workers(profile=path) as workers:
            workers.signal(signal.SIGUSR1)
            for _ in range(waves):
                stage.drain(workers, name, count)
            workers.signal(signal.SIGUSR2)
            stage.wait_for(path, workers)
        found = json.loads(path.read_text(encoding="utf-8"))
        total = sum(count for _, _, count in found) or 1
        rooms: collections.Counter[str] = collections.Counter()
        for file, _, samples in found:
            rooms[room_of(file)] += samples
        values |= {f"profile_{key}_{room}": 100 * samples / total for room, samples in rooms.items()}
    return Outcome(values)
