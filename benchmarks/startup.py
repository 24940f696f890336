"""How long it takes until something happens: the import, a worker, the command line."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measure import Outcome, Stage
from benchmarks.sizes import Sizes

__all__ = ["startup"]

_IMPORT = "import time; at = time.perf_counter(); import flowgen; print(time.perf_counter() - at)"


def startup(stage: Stage, sizes: Sizes) -> Outcome:
    imports, workers, helps = [], [], []
    for _ in range(sizes.startups + 1):  # the first one warms the caches of the file system
        said = subprocess.run([sys.executable, "-c", _IMPORT], capture_output=True, text=True, check=True)
        imports.append(float(said.stdout) * 1000)
        begun = time.perf_counter()
        with stage.workers(warm=False):
            workers.append((time.perf_counter() - begun) * 1000)
        begun = time.perf_counter()
        subprocess.run([Path(sys.executable).with_name("flowgen"), "--help"], stdout=subprocess.DEVNULL, check=True)
        helps.append((time.perf_counter() - begun) * 1000)
    values = {
        "start_import": statistics.median(imports[1:]),
        "start_worker": statistics.median(workers[1:]),
        "start_help": statistics.median(helps[1:]),
    }
    return Outcome(values)
