"""The embedded server as root and as an ordinary user: who owns what, and who may connect."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from flowgen.postgres import embedded

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

NOBODY = """
import os, pathlib, sys
import psycopg
from flowgen.postgres import embedded
os.setgroups([]); os.setgid(65534); os.setuid(65534)
folder = pathlib.Path(sys.argv[1])
"""


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user can reach, unlike tmp_path."""
    folder = Path(tempfile.mkdtemp(prefix="flowgen-test-"))
    folder.chmod(0o777)
    yield folder
    for found in folder.rglob(".flowgen"):
        embedded.stop(found, "immediate")
        embedded.reset(found)
    shutil.rmtree(folder)


def run(code: str, *arguments: object, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        capture_output=True, text=True, env={**os.environ, **env}, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def marks(*paths: Path) -> dict[Path, tuple[int, int, int]]:
    return {path: (found.st_mode, found.st_uid, found.st_gid) for path in paths for found in [path.lstat()]}


def test_as_root_nothing_outside_the_folder_changes_mode_or_owner(tmp_path: Path) -> None:
    folder = tmp_path / "project" / ".flowgen"
    folder.parent.mkdir()
    (folder.parent / "app.py").touch()
    program = embedded.binaries() / "postgres"
    watched = [*folder.parents, folder.parent / "app.py", program, *program.parents, Path("/root"), Path("/var/lib")]
    before = marks(*watched)
    embedded.ensure(folder)
    try:
        data = embedded.status(folder).data
        assert data is not None
        assert data.stat().st_uid != 0
        assert not data.is_relative_to(folder)
        assert {path.lstat().st_uid for path in folder.iterdir()} == {0}
        embedded.stop(folder)
        assert marks(*watched) == before
    finally:
        embedded.stop(folder)
        embedded.reset(folder)
    assert not data.parent.exists()


def test_binaries_below_a_private_folder_are_copied_and_the_folder_stays_private(open_folder: Path) -> None:
    private = open_folder / "private"
    private.mkdir(mode=0o700)
    package = embedded.binaries().parents[1]
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.is_dir():
            shutil.copytree(source, private / source.name, ignore=shutil.ignore_patterns("pginstall", "include"))
    code = """
import pathlib, sys
from flowgen.postgres import embedded, server_folder
server_folder.SYSTEM_FOLDERS = (pathlib.Path(sys.argv[2]),)
print(embedded.ensure(pathlib.Path(sys.argv[1])))
assert str(embedded.binaries()).startswith(sys.argv[3])
"""
    before = marks(private)
    system = open_folder / "system"
    folder = private / "project" / ".flowgen"
    url = run(code, folder, system, private, PYTHONPATH=str(private))
    with psycopg.connect(url) as connection:
        assert connection.execute("select 1").fetchone() == (1,)
    pid = embedded.status(folder).pid
    assert pid is not None
    assert Path(f"/proc/{pid}/exe").resolve().is_relative_to(system)
    embedded.stop(folder)
    assert run(code, folder, system, private, PYTHONPATH=str(private)) == url
    assert marks(private) == before


def test_an_ordinary_user_keeps_everything_in_the_folder(open_folder: Path) -> None:
    folder = open_folder / ".flowgen"
    code = (
        NOBODY
        + """
with psycopg.connect(embedded.ensure(folder)) as connection:
    print(connection.execute("show data_directory").fetchone()[0])
assert embedded.stop(folder)
"""
    )
    assert run(code, folder) == str(folder / "data")
    assert {path.stat().st_uid for path in folder.rglob("*")} == {65534}


def test_a_long_path_has_its_socket_in_a_short_private_folder(open_folder: Path) -> None:
    folder = open_folder / ("long" * 15) / ("path" * 15) / ".flowgen"
    code = (
        NOBODY
        + """
url = embedded.ensure(folder)
with psycopg.connect(url) as connection:
    print(connection.execute("show unix_socket_directories").fetchone()[0].strip('"'))
assert embedded.ensure(folder) == url
"""
    )
    sockets = Path(run(code, folder))
    assert len(str(sockets)) < 60
    assert (sockets.stat().st_mode & 0o777, sockets.stat().st_uid) == (0o700, 65534)
    embedded.stop(folder)
    embedded.reset(folder)
    assert not sockets.exists()


def test_root_and_the_folders_user_share_one_server(open_folder: Path) -> None:
    folder = open_folder / ".flowgen"
    code = NOBODY + "print(embedded.ensure(folder))"
    url = run(code, folder)
    assert embedded.ensure(folder) == url
    embedded.stop(folder)
    assert embedded.ensure(folder) == url
    data = embedded.status(folder).data
    assert data is not None
    assert data.stat().st_uid == 65534
    assert run(code, folder) == url
    embedded.stop(folder)
    assert run(code, folder) == url


def test_another_user_is_told_whose_server_it_is(open_folder: Path) -> None:
    folder = open_folder / ".flowgen"
    url = embedded.ensure(folder)
    code = (
        NOBODY
        + """
from flowgen.errors import DatabaseError
for act in (lambda: embedded.ensure(folder), lambda: embedded.stop(folder)):
    try:
        act()
    except DatabaseError as error:
        print(error)
try:
    psycopg.connect(sys.argv[2])
except psycopg.OperationalError:
    print("no connection")
"""
    )
    said = run(code, folder, url).splitlines()
    assert len(said) == 3
    assert all("user" in line for line in said[:2])
    assert said[2] == "no connection"
