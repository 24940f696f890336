"""The executions of runs that hung up, kept so that a wake needs no replay.

A bounded convenience: a run is its rows, and whatever is dropped here is replayed from them. The invariant: an
execution is taken up again only when the claim that follows its hang-up brought nothing that it does not know. That
claim may have been sent before the run hung up: then it brings the history, and its end tells that nothing is new.
"""

from __future__ import annotations

from collections import OrderedDict
from uuid import UUID

from flowgen.postgres.rows import ClaimedRun, Have
from flowgen.worker.live import LiveRun

__all__ = ["Cache"]


class Cache:
    """At most `size` of them; the one that has waited longest is dropped first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._runs: OrderedDict[UUID, tuple[int, LiveRun]] = OrderedDict()

    def keep(self, run: LiveRun) -> None:
        """The run has hung up."""
        _, older = self._runs.pop(run.run_id, (0, None))
        if older is not None:
            older.execution.close()
        self._runs[run.run_id] = (run.claimed.claim, run)
        while len(self._runs) > self._size:
            self._runs.popitem(last=False)[1][1].execution.close()

    def haves(self) -> list[Have]:
        """What is here, for the claim."""
        return [Have(run_id, claim, run.next_index - 1) for run_id, (claim, run) in self._runs.items()]

    def revived(self, claimed: ClaimedRun) -> LiveRun | None:
        """The run of this claim, when its execution is up to date; it leaves the cache for good."""
        claim, run = self._runs.pop(claimed.run_id, (0, None))
        if run is None:
            return None
        up_to_date = not claimed.entries if claimed.partial else claimed.next_index == run.next_index
        if claimed.claim == claim + 1 and up_to_date:
            run.claimed_again(claimed)
            return run
        run.execution.close()
        return None

    def drop(self) -> None:
        """Forget all of them."""
        for _, run in self._runs.values():
            run.execution.close()
        self._runs.clear()
