"""What a worker process of the harness does besides: it opens the witness, counts what the store refuses of it, and
breaks its engine when the harness is itself under test (`patches.py`).
"""

from __future__ import annotations

import faulthandler
import os
import signal
from typing import Any

from flowgen.worker.sessions import SessionHolder
from tests.chaos import witness

BUG = "CHAOS_BUG"
"""Names the seeded bug that the processes of one run of the harness have."""


def begin() -> None:
    """Once in a process, when the workload is imported; nothing unless it belongs to a run of the harness."""
    if witness.open_from_environment():
        _count_refusals()
        faulthandler.register(signal.SIGUSR1)  # where every thread stands, into the log
    if os.environ.get(BUG):
        from tests.chaos import patches

        patches.PATCHES[os.environ[BUG]]()


def _count_refusals() -> None:
    lost = SessionHolder.lost

    def told(self: SessionHolder, session: Any) -> bool:
        witness.say("refused", session=str(session.id))
        return lost(self, session)

    SessionHolder.lost = told  # type: ignore[method-assign]
