"""The folder of an embedded server: where its files lie, who owns them, and the two locks that guard them.

It never starts or signals a process and never reads a clock; outside the folder it creates files, but changes the mode
or owner of nothing that it has not created. Invariants: whoever starts, stops or deletes a server holds `lock`; a
server holds `alive` for as long as any of its processes lives, because they inherit the locked descriptor. So whether a
server runs is never guessed from a process id, which a kill -9 leaves behind and the system gives to someone else.

    .flowgen/ .gitignore server.json lock alive watch server.log
              data/ run/                  unless root started it; then /var/lib/flowgen/<id>/ data/ run/
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import pwd
import secrets
import socket
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from flowgen.errors import DatabaseError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Owner", "Place", "Postmaster", "ServerFolder", "find", "system_folder"]

PORT = 5432
SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")  # the shortest question that a server answers
LONGEST_SOCKET_PATH = 99  # sun_path is 104 bytes on macOS and 108 on Linux
SYSTEM_FOLDERS = (Path("/var/lib/flowgen"), Path("/var/tmp/flowgen"))  # noqa: S108 - refused unless root made it
FILES = ("lock", "alive", "watch", "server.log")
SERVER_USERS = ("postgres", "_postgres", "nobody")


@attrs.frozen
class Owner:
    """The unprivileged user as whom a server runs when root starts it: PostgreSQL refuses to run as root."""

    uid: int
    gid: int


@attrs.frozen
class Place:
    """Where one server keeps its data and its sockets; `owner` is None when it runs as the caller."""

    data: Path
    sockets: Path
    owner: Owner | None = None


@attrs.frozen
class Postmaster:
    """What postmaster.pid says. It may be stale: only `listening` is a fact."""

    pid: int
    sockets: Path
    status: str

    @classmethod
    def of(cls, data: Path) -> Postmaster | None:
        try:
            lines = (data / "postmaster.pid").read_text(encoding="utf-8", errors="replace").splitlines()
            return cls(int(lines[0]), Path(lines[4]), lines[7].strip() if len(lines) > 7 else "starting")
        except (FileNotFoundError, NotADirectoryError, IndexError, ValueError):
            return None  # absent, or being written
        except PermissionError as error:
            raise DatabaseError(f"{data} is of another user: run as that user, or pass a URL.") from error

    def listening(self) -> bool:
        """Whether its socket is open: the process lives, though it may be starting, stopping or hung."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(self.sockets / f".s.PGSQL.{PORT}"))
            except OSError as error:
                return error.errno not in (errno.ECONNREFUSED, errno.ENOENT, errno.ENOTDIR, errno.ENOTSOCK)
        return True

    def ready(self) -> bool:
        """Whether it takes connections now. It must answer: a process being killed has its socket open a while."""
        if self.status != "ready":
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(5)
            try:
                probe.connect(str(self.sockets / f".s.PGSQL.{PORT}"))
                probe.sendall(SSL_REQUEST)
                return len(probe.recv(1)) == 1
            except OSError:
                return False


@attrs.frozen
class ServerFolder:
    """`.flowgen/` itself: `root` is absolute and resolved."""

    root: Path

    @property
    def log(self) -> Path:
        return self.root / "server.log"

    def create(self) -> None:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            ignore = self.root / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n", encoding="utf-8")
            owner = self.root.stat()
            for name in FILES:
                file = self.root / name
                if not file.exists():
                    file.touch(mode=0o644)
                    if os.geteuid() == 0:  # so that the folder's user is not locked out of it
                        os.chown(file, owner.st_uid, owner.st_gid)
        except OSError as error:
            raise DatabaseError(f"The folder of the embedded server cannot be made: {error}. Pass a URL, or set "
                                "FLOWGEN_URL.") from error  # fmt: skip

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """The one lock under which servers are made, started, migrated, stopped and deleted. Not reentrant."""
        descriptor = self.take("lock", wait=True)
        assert descriptor is not None
        try:
            yield
        finally:
            os.close(descriptor)

    def take(self, name: str, *, wait: bool) -> int | None:
        """An exclusive lock on a file of the folder, as an open descriptor; None when another holds it."""
        import fcntl

        try:
            descriptor = os.open(self.root / name, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise DatabaseError(f"The embedded server's lock cannot be opened: {error}. The folder is of another "
                                "user, or read-only: run as its user, or pass a URL.") from error  # fmt: skip
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            raise DatabaseError(f"The file system of {self.root} has no locks ({error}): pass a URL.") from error
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def held(self, name: str) -> bool:
        """Whether someone holds the lock; a shared probe, so that two probes never see each other."""
        import fcntl

        try:
            descriptor = os.open(self.root / name, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def used(self) -> None:
        """Tell the idle watcher that someone is about to connect."""
        os.utime(self.root / "lock")

    def peek(self) -> Place | None:
        """The place that is recorded, for those who only look."""
        record = self.record()
        return None if record is None else self._place(record["id"], Path(record["data"]))

    def place(self) -> Place:
        """The place of this folder's server, recorded at the first call. Call it under `lock`."""
        record = self.record()
        if record is not None and record["folder"] != str(self.root):
            there = ServerFolder(Path(record["folder"])).record()
            inside = Path(record["data"]).is_relative_to(record["folder"])
            if there is not None and there["id"] == record["id"]:
                record = None  # the folder is a copy: two servers must not share one place
            else:
                data = self.root / "data" if inside else Path(record["data"])
                record = {"id": record["id"], "data": str(data)}
                self._write(record)
        if record is None:
            name = secrets.token_hex(6)
            data = self.root / "data"
            if os.geteuid() == 0 and not data.exists():
                data = system_folder() / name / "data"
            record = {"id": name, "data": str(data)}
            self._write(record)
        return self._place(record["id"], Path(record["data"]))

    def _place(self, name: str, data: Path) -> Place:
        inside = data.is_relative_to(self.root)
        owner = _owner_of(data) if os.geteuid() == 0 else None
        if os.geteuid() != 0 and not inside:
            raise DatabaseError(f"The embedded server of {self.root} was made by root and keeps its data in {data}. "
                                f"Run as root, or delete {self.root} for a new one, or pass a URL.")  # fmt: skip
        return Place(data, self._sockets(name, data.parent / "run"), owner)

    def _sockets(self, name: str, near: Path) -> Path:
        if len(os.fsencode(near / f".s.PGSQL.{PORT}.lock")) <= LONGEST_SOCKET_PATH:
            return near
        # Of the id and the path: a folder that was deleted and made anew never meets the sockets of the one before.
        key = hashlib.sha256(f"{name}\0{self.root}".encode()).hexdigest()[:12]
        short = Path(tempfile.gettempdir()) / f"flowgen-{key}"
        if len(os.fsencode(short / f".s.PGSQL.{PORT}.lock")) <= LONGEST_SOCKET_PATH:
            return short
        return Path("/tmp") / short.name  # noqa: S108 - made 0700 and checked by make_private

    def record(self) -> dict[str, str] | None:
        """What server.json says: the id of the server, the folder that it was made for, its data."""
        try:
            record = json.loads((self.root / "server.json").read_text(encoding="utf-8"))
            return {key: str(record[key]) for key in ("id", "folder", "data")}
        except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
            return None

    def _write(self, record: dict[str, str]) -> None:
        new = self.root / "server.json.new"
        new.write_text(json.dumps({**record, "folder": str(self.root)}, indent=1) + "\n", encoding="utf-8")
        new.replace(self.root / "server.json")


def find(start: Path | None = None) -> Path:
    """The default folder: the nearest parent's `.flowgen`, else beside the nearest `pyproject.toml` or `.git`."""
    here = (start or Path.cwd()).resolve()
    parents = (here, *here.parents)
    for parent in parents:
        if (parent / ".flowgen").is_dir():
            return parent / ".flowgen"
    for parent in parents:
        if (parent / "pyproject.toml").is_file() or (parent / ".git").exists():
            return parent / ".flowgen"
    return here / ".flowgen"


def system_folder() -> Path:
    """Where root keeps the data of servers: a folder that everybody can pass through and only root can write."""
    seen: list[str] = []
    for folder in SYSTEM_FOLDERS:
        try:
            make_private(folder, None, mode=0o755)
        except (OSError, DatabaseError) as error:
            seen.append(str(error))
            continue
        return folder
    raise DatabaseError(f"As root the embedded server's data needs a system folder, and none can be made: "
                        f"{'; '.join(seen)}. Run as another user, or pass a URL.")  # fmt: skip


def make_private(folder: Path, owner: Owner | None, *, mode: int = 0o700) -> None:
    """Create a folder of `owner`, or accept one that is exactly that; never repair what someone else has made."""
    uid = os.geteuid() if owner is None else owner.uid
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or stat.S_IMODE(found.st_mode) & ~mode:
            raise DatabaseError(
                f"{folder} must be a folder of user {uid} with mode {mode:o}; it has mode "
                f"{stat.S_IMODE(found.st_mode):o} and is of user {found.st_uid}. Delete it."
            ) from None
        return
    folder.chmod(mode)
    if owner is not None:
        os.chown(folder, owner.uid, owner.gid)


def _owner_of(data: Path) -> Owner:
    """Whose server root starts: the owner of the data, else the first unprivileged user that this system has."""
    try:
        found = data.stat()
    except FileNotFoundError:
        for name in SERVER_USERS:
            with contextlib.suppress(KeyError):
                user = pwd.getpwnam(name)
                return Owner(user.pw_uid, user.pw_gid)
        raise DatabaseError(f"PostgreSQL refuses to run as root, and this system has none of the users "
                            f"{', '.join(SERVER_USERS)}. Run as another user, or pass a URL.") from None  # fmt: skip
    if found.st_uid == 0:
        raise DatabaseError(f"{data} is of root, and PostgreSQL refuses to run as root. Give it to another user "
                            f"(chown -R), or delete it.")  # fmt: skip
    return Owner(found.st_uid, found.st_gid)
