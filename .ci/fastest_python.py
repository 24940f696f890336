"""Print the Python of this machine that runs a plain loop fastest, of those that the project can be measured with.

How an interpreter was built (with profiles of its own, at link time, as a shared library) makes a third of its speed,
and no flag says it reliably; so each one is asked to do the same work.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

VERSIONS = ("3.11", "3.12", "3.13")
FOLDERS = ("/usr/bin", "/usr/local/bin", "/opt/homebrew/bin")
MARGIN = 0.95
"""A Python must need less than this part of the time of the running one."""
WORK = """
import ensurepip, sys, time, venv
class Point:
    __slots__ = ("x", "y")
    def __init__(self, x, y):
        self.x = x
        self.y = y
    def moved(self, by):
        return Point(self.x + by, self.y)
def work():
    kept = {}
    for at in range(100_000):
        kept[at & 255] = Point(at, at).moved(1).x
best = 9.0
for _ in range(7):
    begun = time.process_time()
    work()
    best = min(best, time.process_time() - begun)
print(sys.implementation.name, best)
"""


def candidates() -> Iterator[Path]:
    """Programs that may be a Python of a supported version, the running one's own first."""
    yield Path(sys.base_exec_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for version in VERSIONS:
        for found in (shutil.which(f"python{version}"), *(f"{each}/python{version}" for each in FOLDERS)):
            if found and "shims" not in found and Path(found).exists():
                yield Path(found)
        yield from sorted(each / "bin" / f"python{version}" for each in (pyenv / "versions").glob(f"{version}.*"))


def seconds(program: Path) -> float | None:
    """How long the work takes; None when it is no CPython that can make an environment."""
    try:
        said = subprocess.run([program, "-I", "-c", WORK], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = said.stdout.split()
    return float(words[1]) if said.returncode == 0 and words[0] == "cpython" else None


def main() -> None:
    programs = list({each.resolve(): each for each in candidates() if each.exists()}.values())
    taken = {each: found for each in programs if (found := seconds(each)) is not None}
    own = programs[0] if programs and programs[0] in taken else None
    best = min(taken, key=lambda each: taken[each], default=None)
    if own is not None and best is not None and taken[best] > MARGIN * taken[own]:
        best = own
    print(best if best is not None else sys.executable)


main()
