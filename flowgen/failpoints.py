"""Failpoints: named moments of the engine at which a test has the process killed, stopped, delayed, refused or cut off.

They are off, and cost a look at an empty dictionary, unless the environment says `FLOWGEN_FAILPOINTS`:

    FLOWGEN_FAILPOINTS="step.after_body=kill, claim.before:2=raise"

`name[:nth]=action` fires once, the nth time that the moment is reached, and says so on standard error. The actions:

    kill        SIGKILL to this process
    term        SIGTERM to this process
    stop:ms     SIGSTOP, and SIGCONT after so many milliseconds
    sleep:ms    block the thread that is there
    raise       raise `InjectedError`, a trouble of the database that passes
    close       cut every connection of this process to the database
    lostack     both: what was asked may have been done, and no answer comes

`FLOWGEN_EVICT=1` is the opposite of a rare moment: workers give each run back after every command, so that all that a
handler knows comes from its history.

It never decides anything: an engine in which no failpoint fires does the same with this file as without it.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import threading
from contextlib import suppress

import attrs

from flowgen.errors import DatabaseError

__all__ = ["ARMED", "EVICT", "POINTS", "InjectedError", "arm", "evicting", "failpoint"]

VARIABLE = "FLOWGEN_FAILPOINTS"
EVICT = "FLOWGEN_EVICT"

POINTS = frozenset(
    {
        "claim.before", "claim.after_select", "claim.before_commit", "claim.after_commit",
        "handler.start", "handler.before_send", "handler.after_send",
        "step.before_body", "step.after_body", "step.before_insert", "step.before_commit", "step.after_commit",
        "tx_step.before_commit", "tx_step.after_commit",
        "sleep.before_commit", "sleep.after_commit",
        "invoke.after_child_insert", "invoke.before_commit", "invoke.after_commit",
        "checkpoint.release",
        "schedule.before", "schedule.after_commit",
        "complete.before_commit", "complete.after_commit", "child.before_parent_wake",
        "heartbeat.before", "heartbeat.after",
        "sweep.after_select", "sweep.before_commit",
        "cron.after_enqueue", "cron.after_commit",
        "shutdown.before_release", "shutdown.after_release",
        "migrate.mid",
        "reconnect.before",
    }
)  # fmt: skip
"""Every moment that has a name."""
_ACTIONS = frozenset({"kill", "term", "stop", "sleep", "raise", "close", "lostack"})
_TIMED = frozenset({"stop", "sleep"})


class InjectedError(DatabaseError):
    """What `raise` and `lostack` raise: transient, without an SQLSTATE, as when a connection is gone."""

    def __init__(self, point: str) -> None:
        super().__init__(f"the failpoint {point} broke it off", transient=True)


@attrs.define
class _Armed:
    action: str
    seconds: float
    left: int
    """How many times the moment is still to be reached, this one included."""


ARMED: dict[str, _Armed] = {}
"""What is armed. Ask it before `failpoint`: it is empty in every process that is not a test's."""
_lock = threading.Lock()


def arm(text: str) -> None:
    """Arm what a text says, instead of what was armed. Raises ValueError for what it does not know."""
    ARMED.clear()
    for item in filter(None, (part.strip() for part in text.split(","))):
        moment, _, action = item.partition("=")
        point, _, nth = moment.partition(":")
        verb, _, milliseconds = action.partition(":")
        if point not in POINTS:
            raise ValueError(f"{VARIABLE}: there is no failpoint {point!r}; there are {', '.join(sorted(POINTS))}")
        if verb not in _ACTIONS or (verb in _TIMED) != bool(milliseconds):
            raise ValueError(
                f"{VARIABLE}: {item!r} asks for {action!r}; say kill, term, stop:ms, sleep:ms, raise, close or lostack"
            )
        if not (nth or "1").isdigit() or not (milliseconds or "1").isdigit():
            raise ValueError(f"{VARIABLE}: {item!r} holds what is no number; say name:nth=action, action:ms")
        ARMED[point] = _Armed(verb, int(milliseconds or 0) / 1000, int(nth or 1))


def failpoint(point: str) -> None:
    """The moment `point` is reached. Call it as `if ARMED: failpoint(...)`."""
    assert point in POINTS, point
    with _lock:
        armed = ARMED.get(point)
        if armed is None:
            return
        armed.left -= 1
        if armed.left:
            return
        del ARMED[point]
    os.write(2, f"failpoint {point}: {armed.action}\n".encode())
    _fire(point, armed)


def evicting() -> bool:
    """Whether workers of this process keep no generator beyond a command. Asked when a worker starts."""
    return os.environ.get(EVICT, "0") not in ("", "0")


def _fire(point: str, armed: _Armed) -> None:
    match armed.action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "term":
            os.kill(os.getpid(), signal.SIGTERM)
        case "stop":
            _stop(armed.seconds)
        case "sleep":
            threading.Event().wait(armed.seconds)
        case "raise":
            raise InjectedError(point)
        case "close":
            _cut()
        case "lostack":
            _cut()
            raise InjectedError(point)


def _stop(seconds: float) -> None:
    """Stop this process; another one lets it go on."""
    script = f"sleep {seconds}; kill -CONT {os.getpid()}"
    waker = subprocess.Popen(["/bin/sh", "-c", script], start_new_session=True)  # noqa: S603 - two numbers
    os.kill(os.getpid(), signal.SIGSTOP)
    waker.wait()


def _cut() -> None:
    """Shut the sockets to the server down: whoever uses one next finds it closed."""
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                with socket.socket(fileno=os.dup(descriptor)) as connection:
                    if _leads_to_a_server(connection):
                        connection.shutdown(socket.SHUT_RDWR)


def _leads_to_a_server(connection: socket.socket) -> bool:
    """Whether it is a client's end, and not one of the pairs with which an event loop wakes itself."""
    if connection.family == socket.AF_UNIX:
        return ".s.PGSQL." in str(connection.getpeername())
    return connection.family in (socket.AF_INET, socket.AF_INET6) and bool(connection.getpeername())


arm(os.environ.get(VARIABLE, ""))
