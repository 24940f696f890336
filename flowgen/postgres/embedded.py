"""The embedded PostgreSQL server: the database of a program that was given none.

It starts, looks at, stops and deletes the server of one folder. It never listens on TCP, never speaks SQL, and never
lowers the durability that PostgreSQL has by default. Invariant: every change of a server's state happens under the
folder's lock, and a server counts as running only while it answers on its socket or holds its own lock.

The server belongs to nobody's process: it outlives its users until `stop`, or until no client was connected for
`FLOWGEN_EMBEDDED_IDLE` seconds (300; 0 is never), as the watcher in `idle_stop.py` finds.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

import attrs

from flowgen.errors import DatabaseError, DefinitionError
from flowgen.postgres.server_binaries import environment, find_binaries, reachable, run_as
from flowgen.postgres.server_folder import PORT, Owner, Place, Postmaster, ServerFolder, find, make_private

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["ServerStatus", "binaries", "default_url", "ensure", "reset", "server_log", "status", "stop"]

POLL = 0.05
START_POLLS = int(120 / POLL)
STOP_POLLS = int(60 / POLL)
ORPHAN_POLLS = int(3 / POLL)
IDLE = 300.0
LOG_LIMIT = 10_000_000

# Written to postgresql.conf once, so that a user may change them there.
DEFAULTS = {
    "max_connections": "100",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
    "jit": "off",
}
SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}

_announced: set[Path] = set()


@attrs.frozen
class ServerStatus:
    """What is known of a folder's server. `pid` and `url` are None unless it is running."""

    running: bool
    pid: int | None
    url: str | None
    folder: Path
    data: Path | None
    version: str | None
    log: Path


def default_url(url: str | None = None, *, prepare: Callable[[str], None] | None = None) -> str:
    """The URL to use: the argument, else `FLOWGEN_URL`, else the embedded server's, which is started.

    `prepare` (a migration) is called for the embedded server only. Raises `DefinitionError` when there is no URL and
    the extra `embedded` is not installed.
    """
    chosen = url or os.environ.get("FLOWGEN_URL")
    if chosen:
        return chosen
    folder = find()
    chosen = ensure(folder, prepare=prepare)
    if folder not in _announced:
        _announced.add(folder)
        print(f"flowgen: embedded PostgreSQL in {folder}", file=sys.stderr)
    return chosen


def ensure(
    folder: Path | None = None,
    *,
    prepare: Callable[[str], None] | None = None,
    settings: Mapping[str, str] | None = None,
    idle: float | None = None,
) -> str:
    """Start the server of `folder` (`.flowgen/`, found when None) unless it runs, and return its URL.

    `prepare` is called with the URL under the folder's lock, at every call. `settings` (PostgreSQL's) and `idle`
    (seconds without clients until it stops, 0 is never) hold for a server that this call starts.
    """
    home = _home(folder)
    seconds = _idle() if idle is None else idle
    find_binaries()
    home.create()
    with home.lock():
        place = home.place()
        if _settle(home, place) is None:
            _start(home, place, settings or {})
        home.used()
        url = _url(place)
        if prepare is not None:
            prepare(url)
        _watch(home, place, seconds)
    return url


def status(folder: Path | None = None) -> ServerStatus:
    """What the server of `folder` does now. Starts, creates and waits for nothing."""
    home = _home(folder)
    place = home.peek()
    found = None if place is None else Postmaster.of(place.data)
    running = place is not None and found is not None and found.listening()
    version = None
    if place is not None:
        with contextlib.suppress(OSError):
            version = (place.data / "PG_VERSION").read_text(encoding="utf-8").strip()
    return ServerStatus(
        running=running,
        pid=found.pid if running and found is not None else None,
        url=_url(place) if running and place is not None else None,
        folder=home.root,
        data=None if place is None else place.data,
        version=version,
        log=home.log,
    )


def stop(folder: Path | None = None, mode: Literal["smart", "fast", "immediate"] = "fast") -> bool:
    """Stop the server of `folder` and wait until it has ended; whether there was one to stop.

    A server that has not ended after a minute is stopped immediately: nothing is lost, the next start recovers.
    """
    home = _home(folder)
    if not home.root.is_dir():
        return False
    with home.lock():
        place = home.peek()
        return place is not None and _stop(home, place, mode)


def reset(folder: Path | None = None) -> None:
    """Delete the data of the server of `folder`. Refuses while it runs."""
    home = _home(folder)
    if not home.root.is_dir():
        return
    with home.lock():
        place = home.peek()
        if place is None:
            return
        if _settle(home, place) is not None:
            raise DatabaseError(f"The embedded server of {home.root} is running: stop it first (flowgen db stop).")
        for path in (place.data, _unfinished(place), place.sockets):
            if path.exists():
                shutil.rmtree(path)
        if not place.data.is_relative_to(home.root):
            place.data.parent.rmdir()
        (home.root / "server.json").unlink()
        home.log.unlink(missing_ok=True)


def binaries() -> Path:
    """The folder of the wheel's programs: psql, pg_ctl, pg_basebackup, pgbench, ..."""
    return find_binaries()[0]


def server_log(folder: Path | None = None, *, limit: int = 20_000) -> str:
    """The last `limit` bytes of the server's log."""
    return _log_tail(_home(folder).log, 0, limit)


def _home(folder: Path | None) -> ServerFolder:
    if sys.platform.startswith("win"):
        raise DefinitionError("The embedded server needs Linux or macOS. Pass a URL, or set FLOWGEN_URL.")
    return ServerFolder((folder or find()).resolve())


def _url(place: Place) -> str:
    return f"postgresql://postgres@/postgres?host={quote(str(place.sockets), safe='')}&port={PORT}"


def _settle(home: ServerFolder, place: Place) -> Postmaster | None:
    """Wait out a server that starts, stops or dies: the ready one, or None when no process of one is left."""
    dying = 0
    for _ in range(START_POLLS):
        found = Postmaster.of(place.data)
        listening = found is not None and found.listening()
        if not listening and not home.held("alive"):
            return None
        if listening and found is not None and found.ready():
            return found
        dying = 0 if listening else dying + 1
        if dying > ORPHAN_POLLS and found is not None:
            _end_unreachable(place.data, found.pid)
        time.sleep(POLL)
    raise DatabaseError(
        f"The embedded server of {home.root} neither started nor ended within 120 s. The end of {home.log}:\n"
        f"{_log_tail(home.log, 0)}"
    )


def _end_unreachable(data: Path, postmaster: int) -> None:
    """End what nobody can connect to: the orphans of a killed server, or the server of a folder that was moved.

    Known by their working folder, which is the data and which no other process has. Where /proc is missing they are
    only waited for: orphans end by themselves when they finish what they do.
    """
    left: set[int] = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cwd").samefile(data):
                left.add(int(process.name))
    with contextlib.suppress(ProcessLookupError):
        if postmaster in left:
            os.kill(postmaster, signal.SIGINT)
            return
        for pid in left:
            os.kill(pid, signal.SIGKILL)


def _start(home: ServerFolder, place: Place, settings: Mapping[str, str]) -> None:
    """Start a server where none runs, and wait until it is ready."""
    programs = _initialised(home, place)
    _forget_stale(place)
    make_private(place.sockets, place.owner)
    alive = _take_alive(home)
    command = [str(programs / "postgres"), "-D", str(place.data)]
    for name, value in {
        "listen_addresses": "",
        "unix_socket_directories": f'"{place.sockets}"',
        "unix_socket_permissions": "0700",
        "port": str(PORT),
        "logging_collector": "off",
        "log_destination": "stderr",
        **settings,
    }.items():
        command += ["-c", f"{name}={value}"]
    if home.log.exists() and home.log.stat().st_size > LOG_LIMIT:
        home.log.replace(home.log.with_name("server.log.1"))
    try:
        with home.log.open("ab") as log:
            before = log.tell()
            _detach(command, place.owner, log.fileno(), (alive,))
    finally:
        os.close(alive)
    for _ in range(START_POLLS):
        found = Postmaster.of(place.data)
        if found is not None and found.ready():
            return
        if not home.held("alive"):
            raise DatabaseError(f"The embedded server of {home.root} did not start. The end of {home.log}:\n"
                                f"{_log_tail(home.log, before)}")  # fmt: skip
        time.sleep(POLL)
    raise DatabaseError(f"The embedded server of {home.root} is still starting after 120 s: try again later. The end "
                        f"of {home.log}:\n{_log_tail(home.log, before)}")  # fmt: skip


def _take_alive(home: ServerFolder) -> int:
    for _ in range(40):  # `status` of another process may probe it at this moment
        alive = home.take("alive", wait=False)
        if alive is not None:
            return alive
        time.sleep(POLL)
    raise DatabaseError(f"{home.root / 'alive'} is locked by another process than an embedded server.")


def _initialised(home: ServerFolder, place: Place) -> Path:
    """The programs that fit the data, which is made when there is none."""
    try:
        major = (place.data / "PG_VERSION").read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        major = None
    found, version = find_binaries(major)
    programs = reachable(found, place.owner)
    if major is not None:
        return programs
    if place.data.exists():
        raise DatabaseError(f"{place.data} exists and is not the data of a PostgreSQL server. Move it away.")
    if not place.data.is_relative_to(home.root):
        place.data.parent.mkdir(mode=0o711, exist_ok=True)
        place.data.parent.chmod(0o711)
    new = _unfinished(place)
    if new.exists():
        shutil.rmtree(new)
    make_private(new, place.owner)
    locale = ["--locale=C"]
    if int(version) >= 17:
        locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    command = [str(programs / "initdb"), "-D", str(new), "-U", "postgres", "-A", "trust", "-E", "UTF8", *locale]
    command += ["--no-instructions", *(f"--set={name}={value}" for name, value in DEFAULTS.items())]
    said = run_as(place.owner, command)
    if said.returncode != 0:
        raise DatabaseError(f"initdb of the embedded server in {place.data} failed:\n{said.stdout}{said.stderr}")
    new.rename(place.data)  # an initdb that was killed never looks like a database
    return programs


def _unfinished(place: Place) -> Path:
    return place.data.with_name("data.new")


def _forget_stale(place: Place) -> None:
    """Remove the pid files whose process id belongs to someone else by now; PostgreSQL would believe them.

    Call it only when no server lives. One with a dead process id stays: PostgreSQL knows it as stale, and checks by its
    shared memory that nothing of that server is left.
    """
    for path in (place.data / "postmaster.pid", place.sockets / f".s.PGSQL.{PORT}.lock"):
        try:
            pid = int(path.read_text(encoding="utf-8", errors="replace").splitlines()[0])
            os.kill(pid, 0)
        except (FileNotFoundError, ProcessLookupError):
            continue
        except (IndexError, ValueError, OverflowError, PermissionError):
            pass
        path.unlink()


def _detach(command: list[str], owner: Owner | None, output: int, keep: tuple[int, ...]) -> None:
    """Start a process that is nobody's child and of no terminal; it inherits the descriptors `keep`."""
    try:
        subprocess.run(  # noqa: S603 - our own programs
            ["/bin/sh", "-c", '"$@" &', "sh", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=keep,
            start_new_session=True,
            user=None if owner is None else owner.uid,
            group=None if owner is None else owner.gid,
            extra_groups=None if owner is None else [],
            umask=0o077,
            cwd="/",
            env=environment(),
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise DatabaseError(f"{command[0]} could not be started: {error}") from error


def _stop(home: ServerFolder, place: Place, mode: str) -> bool:
    found = Postmaster.of(place.data)
    if found is None or not found.listening():
        # A stale pid file, or orphans of a killed server: nobody to signal, perhaps someone to wait for.
        if _settle(home, place) is None:
            return False
        found = Postmaster.of(place.data)
    for wanted in (SIGNALS[mode], signal.SIGQUIT, signal.SIGKILL):
        if found is not None and found.listening():
            with contextlib.suppress(ProcessLookupError):
                os.kill(found.pid, wanted)
        for _ in range(STOP_POLLS):
            found = Postmaster.of(place.data)
            if not (found is not None and found.listening()) and not home.held("alive"):
                return True
            time.sleep(POLL)
    raise DatabaseError(f"The embedded server of {home.root} did not stop. See {home.log}.")


def _log_tail(log: Path, start: int, limit: int = 4_000) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(start, log.stat().st_size - limit))
            return file.read(limit).decode(errors="replace")
    except FileNotFoundError:
        return ""


def _idle() -> float:
    text = os.environ.get("FLOWGEN_EMBEDDED_IDLE") or str(IDLE)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise DefinitionError(f"FLOWGEN_EMBEDDED_IDLE is {text[:80]!r}: give seconds, or 0 for never")
    return seconds


def _watch(home: ServerFolder, place: Place, seconds: float) -> None:
    """Start the watcher that stops an idle server, unless one watches already."""
    if seconds <= 0 or not sys.executable or home.held("watch"):
        return
    script = Path(__file__).with_name("idle_stop.py")
    psql = find_binaries()[0] / "psql"
    command = [sys.executable, "-I", "-S", str(script), str(home.root), str(place.data), str(psql), str(seconds)]
    with Path(os.devnull).open("wb") as nowhere:
        _detach(command, None, nowhere.fileno(), ())
