"""What a worker process of the harness does besides: it opens the witness, counts what the store refuses of it, and
breaks its engine when the harness is itself under test (`bugs.py`).
"""

from __future__ import annotations

import os
from typing import Any

from flowgen.worker.sessions import SessionHolder
from tests.chaos import witness

BUG = "CHAOS_BUG"
"""Names the seeded bug that the processes of one run of the harness have."""


def begin() -> None:
    """Once in a process, when the workload is imported; nothing unless it belongs to a run of the harness."""
    if witness.VARIABLE not in os.environ or not witness.open_from_environment():
        return
    _count_refusals()
    if os.environ.get(BUG):
        from tests.chaos import bugs

        bugs.BUGS[os.environ[BUG]].patch()


def _count_refusals() -> None:
    lost = SessionHolder.lost

    def told(self: SessionHolder, session: Any) -> bool:
        witness.say("refused", session=str(session.id))
        return lost(self, session)

    SessionHolder.lost = told  # type: ignore[method-assign]
