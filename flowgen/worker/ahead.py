"""Running ahead: outcomes of steps that are told to their handler before they are durable.

For definitions with `durability="checkpoint"`, and for nothing but the outcomes of plain steps: whatever else a run
has to commit takes all that stands before it along, and the run waits for that commit as any other does. The invariant:
what was told stands at the head of the run's entries, in its order, under the indexes that it will have.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from flowgen.core.commands import Command, Step
from flowgen.core.entries import Entry, EntryKind
from flowgen.core.sealing import Seal
from flowgen.errors import CodecError
from flowgen.worker.live import AT_MOST, LiveRun
from flowgen.worker.ports import Agents

__all__ = ["AGE", "Ahead"]

AGE: Final = timedelta(seconds=1)
"""What was told is committed after this time at the latest; and as soon as there are `AT_MOST` of them."""


class Ahead:
    """Tells outcomes before they are committed, where that is allowed."""

    def __init__(self, agents: Agents, seal: Seal | None) -> None:
        self._agents = agents
        self._seal = seal

    def take(self, run: LiveRun, command: Command[Any], entry: Entry) -> bool:
        """Whether the handler is to be told of this outcome now; then it stands in line for its commit already."""
        if not _may(run, command, entry):
            return False
        entry.index = run.next_index + len(run.entries)
        # `ctx.now` from here on, and again in each replay.
        entry.due_at = self._agents.clock.now()
        stored = entry
        if self._seal is not None:
            try:
                stored = self._seal.close_entry(entry)
            except CodecError:
                entry.index, entry.due_at = -1, None
                return False
        run.entries.append(stored)
        run.told += 1
        if not run.timed:
            run.timed = True
            self._agents.timers.at(entry.due_at + AGE, lambda: self._commit(run))
        if run.told >= AT_MOST:
            self._agents.committer.mark(run)
        return True

    def _commit(self, run: LiveRun) -> None:
        run.timed = False
        if run.told and not run.gone:
            self._agents.committer.mark(run)


def _may(run: LiveRun, command: Command[Any], entry: Entry) -> bool:
    still = run.sending or run.leaving or run.gone or run.update is not None or run.stopping is not None
    if still or run.apart or run.decisions or len(run.entries) > run.told:
        return False
    plain = isinstance(command, Step) and not command.options.at_most_once and entry.kind == EntryKind.OUTCOME
    return plain and not run.execution.undoing
