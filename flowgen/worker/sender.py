"""Sends the signals of runs to other runs, off the group lane.

The statement waits for the row of whom it is sent to, and may find nobody: one at a time, on a connection of its own,
in the order in which they were asked for. The invariant: a signal is in the same commit as the outcome of its command;
one that cannot be sent is recorded as a failure.
"""

from __future__ import annotations

from flowgen.core import ids
from flowgen.core.decision import SignalRequest
from flowgen.core.entries import Entry
from flowgen.core.states import Status, public
from flowgen.postgres import messages
from flowgen.postgres.messages import Sent, SignalOut
from flowgen.worker.apart import Landed
from flowgen.worker.in_turn import InTurn
from flowgen.worker.live import LiveRun

__all__ = ["Sender"]


class Sender(InTurn[SignalRequest, Sent]):
    """Its requests are signals."""

    done = frozenset({"sent"})

    async def _commit(self, run: LiveRun, request: SignalRequest, entry: Entry) -> Sent | Landed | None:
        signal = self._signal(run, request)
        claim = run.claimed.claim
        return await self._apart.commit(
            run, entry, lambda session: messages.send_signal(session, claim, signal, [entry])
        )

    def _signal(self, run: LiveRun, request: SignalRequest) -> SignalOut:
        """The signal as it is stored. Raises CodecError."""
        command, payload = request.command, request.payload
        if self._seal is not None:
            payload = self._seal.closed(payload, f"the payload of the signal {command.name}")
        to = ids.candidates(run.execution.facts.schema, command.run)
        return SignalOut(run.run_id, to, command.name, payload)

    def _shown(self, request: SignalRequest) -> str:
        return f"the signal {request.command.name!r}"

    def _refusal(self, run: LiveRun, request: SignalRequest, came: Sent) -> tuple[str, str]:
        to = str(request.command.run)
        if came.what == "missing":
            return f"no run has the id {to!r}", "RunNotFound"
        return f"the run {to!r} ({came.name}) is {public(Status(came.status or 0)).value}", "RunEnded"
