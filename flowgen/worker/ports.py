"""What the agents of a worker know of each other: one value, filled once when the worker starts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

import attrs

from flowgen.core.decision import SignalRequest
from flowgen.core.entries import Entry
from flowgen.core.settings import Settings
from flowgen.postgres.rows import NewRun
from flowgen.worker.clock import DatabaseClock
from flowgen.worker.executor import Executor, RunningCall
from flowgen.worker.timers import Timers
from flowgen.worker.watchdog import Watchdog

if TYPE_CHECKING:
    from flowgen.worker.live import LiveRun

__all__ = ["Agents", "Attaches", "Commits", "Sends", "Transacts"]


class Commits(Protocol):
    """The committer, for the runner."""

    def mark(self, run: LiveRun) -> None:
        """The run has something to commit."""
        ...

    @property
    def behind(self) -> int:
        """Runs that wait for a commit, or to be told of one."""
        ...


class Transacts(Protocol):
    """The transactor, for the runner."""

    def submit(self, run: LiveRun, running: RunningCall) -> None:
        """Call the function of a Transaction and commit its outcome with its writes."""
        ...


class Attaches(Protocol):
    """The attacher, for the runner."""

    def submit(self, run: LiveRun, child: NewRun, entry: Entry) -> None:
        """Start a child with an author's id, or attach to it, with the entry of its command."""
        ...


class Sends(Protocol):
    """The sender, for the runner."""

    def submit(self, run: LiveRun, request: SignalRequest, entry: Entry) -> None:
        """Send a signal with the outcome of its command."""
        ...


@attrs.define(kw_only=True)
class Agents:
    """The agents and facts of one worker."""

    loop: asyncio.AbstractEventLoop
    settings: Settings
    log: logging.Logger
    clock: DatabaseClock
    timers: Timers
    executor: Executor
    watchdog: Watchdog
    attacher: Attaches = attrs.field(init=False)
    sender: Sends = attrs.field(init=False)
    committer: Commits = attrs.field(init=False)
    transactor: Transacts = attrs.field(init=False)
    cancel_runs: Callable[[UUID, Sequence[UUID], Callable[[bool], None]], None]
    """Cancel these children of a parent durably, then call back: whether some are left, which are to be noted."""
    poke: Callable[[], None]
    """Claim soon: something may be ready."""
    announce: Callable[[], None]
    """There may be events to tell of, or waits that look for one."""
    wake_at: Callable[[datetime], None]
    """Look for due runs at this time."""
