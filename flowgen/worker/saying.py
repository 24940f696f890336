"""What a run says of itself beside its history, until a commit takes it along: progress, a new deadline, reports.

A report is what a function says of its progress. It is told at most once a second per run, and with the next commit in
any case: a function that reports in a tight loop costs no statement. The invariant: what stands next to an outcome is
in that outcome's commit, or in one before it, never in one after.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import attrs

from flowgen.core import codec
from flowgen.core.decision import Decision
from flowgen.postgres.rows import NO_DEADLINE, RunAction, RunUpdate
from flowgen.worker.clock import monotonic

if TYPE_CHECKING:
    from flowgen.worker.executor import RunningCall
    from flowgen.worker.live import LiveRun
    from flowgen.worker.ports import Agents

__all__ = [
    "EVERY",
    "Heard",
    "Said",
    "decided",
    "ended",
    "landed",
    "may_move",
    "put_back",
    "reporting",
    "saying",
    "take",
]

EVERY = 1.0
"""Seconds between two commits of a run that are made for its reports alone."""


@attrs.frozen(eq=False)
class Heard:
    """One report of a function, with what it said before."""

    text: str
    """JSON text."""


@attrs.define(eq=False)
class Said:
    """What one run says, and has not committed."""

    progress: str | None = None
    """JSON text."""
    progress_of: str = ""
    """Key of the outcome that it stands next to."""
    lasts: timedelta | None = None
    """`RunUpdate.lasts`."""
    lasts_of: str = ""
    reports: dict[str, str] = attrs.field(factory=dict)
    """JSON text of what each function in flight said last, by the key of its step."""
    unsaid: bool = False
    """`reports` differs from what was committed."""
    told_at: float = 0.0
    """When reports were told last, on the monotonic clock."""
    waits: bool = False
    """A timer is set, to tell of reports."""
    moved: bool = False
    """It gave itself a deadline since news were told."""

    @property
    def due(self) -> bool:
        """Whether there is anything to commit."""
        return self.progress is not None or self.lasts is not None or self.unsaid


def saying(run: LiveRun) -> Said:
    """What the run says; made when it first says something, as most never do."""
    if run.said is None:
        run.said = Said()
    return run.said


def decided(run: LiveRun, decision: Decision) -> None:
    """Take in what a decision says of the run."""
    if decision.progress is not None:
        said = saying(run)
        said.progress, said.progress_of = decision.progress.text, decision.progress.key
    if decision.deadline is not None and decision.finish is None:
        said, lasts = saying(run), decision.deadline.lasts
        said.lasts, said.lasts_of = NO_DEADLINE if lasts is None else lasts, decision.deadline.key


def reporting(run: LiveRun, calls: Iterable[RunningCall]) -> None:
    """Take in what functions reported.

    A plain task's report is the progress of its run. Those of a workflow's steps stand beside what it says itself.
    """
    said = saying(run)
    for running in calls:
        running.telling = False  # first: what is heard from here on is told again
        found = running.heard
        if found is None or found is running.told:
            continue
        running.told = found
        said.told_at = monotonic()
        if run.execution.definition.is_handler:
            said.reports[running.call.key] = found.text
            said.unsaid = True
        else:
            said.progress, said.progress_of = found.text, ""


class Reports:
    """What functions say of their progress, from their threads to the commits of their runs."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    def heard(self, running: RunningCall, report: Mapping[str, Any]) -> None:
        """On the thread of a function: keep what it says, with what it said before."""
        facts = running.run.execution.facts
        known = {**running.reports, **{key: value for key, value in report.items() if key != "heartbeat" or value}}
        try:
            text = codec.encode(known, what="the progress")
            codec.check_size(text, what="the progress", limit=facts.max_payload)
        except ValueError as error:
            why = type(error).__name__ if facts.discreet else error
            self._agents.log.warning("%s: its progress cannot be stored: %s", facts.name, why)
            return
        running.reports, running.heard = known, Heard(text)
        if not running.telling:
            running.telling = True
            self._agents.loop.call_soon_threadsafe(self._tell, running.run)

    def _tell(self, run: LiveRun, again: bool = False) -> None:
        said = saying(run)
        if again:
            said.waits = False
        if run.gone or said.waits:  # a function may say something after its end
            return
        left = said.told_at + EVERY - monotonic()
        if left > 0:
            said.waits = True
            self._agents.loop.call_later(left, self._tell, run, True)
            return
        reporting(run, run.calls.values())
        self._agents.committer.mark(run)


def ended(run: LiveRun, running: RunningCall) -> None:
    """A function has ended: what it said last is committed with its outcome, or goes with it."""
    if not run.execution.definition.is_handler:
        reporting(run, [running])
    elif run.said is not None and run.said.reports.pop(running.call.key, None) is not None:
        run.said.unsaid = True


def landed(said: Said, update: RunUpdate | None) -> None:
    """This was committed."""
    if update is not None and update.lasts is not None:
        said.moved = True


def may_move(run: LiveRun) -> bool:
    """Whether a deadline that is told as news is one that others gave it.

    News that were asked for before a commit are told after it; what is true is told again, until the run waits.
    """
    if run.said is None or not run.said.moved:
        return True
    run.said.moved = False
    return False


def take(run: LiveRun, update: RunUpdate | None, keys: Collection[str] | None = None) -> RunUpdate | None:
    """The update of the commit that is made now, with what the run says. `keys`: only this part of its entries."""
    said = run.said
    if said is None or not said.due:
        return update
    given: dict[str, Any] = {}
    if said.progress is not None and (keys is None or not said.progress_of or said.progress_of in keys):
        given["progress"], said.progress = said.progress, None
    if said.lasts is not None and (keys is None or not said.lasts_of or said.lasts_of in keys):
        given["lasts"], said.lasts = said.lasts, None
    if said.unsaid:
        given["reports"], said.unsaid = _object(said.reports), False
    if not given:
        return update
    if update is None:
        update = RunUpdate(run_id=run.run_id, claim=run.claimed.claim, action=RunAction.SET)
    return attrs.evolve(update, **given)


def put_back(run: LiveRun, update: RunUpdate) -> None:
    """The update was not committed: say again what has not been said anew since."""
    if update.progress is not None and saying(run).progress is None:
        saying(run).progress, saying(run).progress_of = update.progress, ""
    if update.lasts is not None and saying(run).lasts is None:
        saying(run).lasts, saying(run).lasts_of = update.lasts, ""
    if update.reports is not None:
        saying(run).unsaid = True


def _object(reports: dict[str, str]) -> str:
    return "{" + ",".join(f"{json.dumps(key)}:{text}" for key, text in reports.items()) + "}"
