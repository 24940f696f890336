"""Print the newest Python of this machine that the project supports and that is not the running version.

Prints nothing when there is none. What is supported is what the classifiers of pyproject.toml say; looked for are
`python3.x` in PATH and in the places where version managers keep theirs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAYS = "import sys; print(*sys.version_info[:3], sys.version_info.releaselevel)"


def supported() -> list[str]:
    """Versions such as "3.13", newest first."""
    found = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', (ROOT / "pyproject.toml").read_text())
    return sorted(found, key=lambda version: int(version[2:]), reverse=True)


def candidates(version: str) -> Iterator[Path]:
    """Programs that may be this version."""
    in_path = shutil.which(f"python{version}")
    if in_path:
        yield Path(in_path)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    uv = Path.home() / ".local/share/uv/python"
    for folder, pattern in ((pyenv / "versions", f"{version}.*"), (uv, f"cpython-{version}.*")):
        yield from sorted((each / "bin" / f"python{version}" for each in folder.glob(pattern)), reverse=True)


def is_version(program: Path, version: str) -> bool:
    """Whether it runs, and is a final release of this version; a shim of pyenv may do neither."""
    try:
        said = subprocess.run([program, "-I", "-c", SAYS], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return said.returncode == 0 and re.fullmatch(rf"3 {version[2:]} \d+ final", said.stdout.strip()) is not None


def main() -> None:
    running = f"3.{sys.version_info.minor}"
    for version in supported():
        if version == running:
            continue
        for program in candidates(version):
            if is_version(program, version):
                print(program)
                return


main()
