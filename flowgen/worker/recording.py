"""What is to be committed of a run, from what a decision asks for: with its next part, or on a way of its own.

Children with an author's id and signals may be refused by the store, so that what they come to is not known before:
they go off the group lane, each with its own entry. The invariant: an entry goes one way only.
"""

from __future__ import annotations

from flowgen.core.decision import Decision
from flowgen.worker import saying
from flowgen.worker.live import LiveRun
from flowgen.worker.making import Maker
from flowgen.worker.ports import Agents

__all__ = ["Recorder"]


class Recorder:
    """Puts decisions into live runs."""

    def __init__(self, agents: Agents, maker: Maker) -> None:
        self._agents = agents
        self._maker = maker

    def record(self, run: LiveRun, decision: Decision) -> None:
        """Put what a decision asks for beside what waits for a commit."""
        apart = {child.key: child for child in decision.children if child.command.options.id is not None}
        signals = {signal.key: signal for signal in decision.signals}
        for entry in decision.entries:
            if entry.key in apart:
                if decision.finish is None:
                    self._agents.attacher.submit(run, self._maker.child(run, apart[entry.key]), entry)
            elif entry.key in signals:
                if decision.finish is None:
                    self._agents.sender.submit(run, signals[entry.key], entry)
            else:
                run.entries.append(entry)
        run.consumed += decision.consumed
        if decision.children:
            run.children += [self._maker.child(run, child) for child in decision.children if child.key not in apart]
        self._maker.beside(run, decision)
        if decision.checkpoint is not None:
            run.prologue = decision.checkpoint
        if decision.progress is not None or decision.deadline is not None:
            saying.decided(run, decision)
