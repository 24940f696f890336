"""Makes a run's end: of its handler's end or its deadline, and of what is undone before the run has come to it.

A run that fails for good, or is cancelled, and has done what can be undone, is closed first: an entry says what it
comes to, its handler is driven no more, and what it did is undone. Then it ends as that entry says, whatever the code,
the clock and the deadline say by then.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flowgen.core.context import RunFacts
from flowgen.core.decision import Decision, Finish
from flowgen.core.definitions import Definition
from flowgen.core.driver import Driver
from flowgen.core.endings import Ending, closed, closing_entry, finished, is_undone, overdue
from flowgen.core.entries import Entry
from flowgen.core.sagas import NO_LEDGER

__all__ = ["Finishing"]


class Finishing(Ending):
    """How far the end of one run is."""

    __slots__ = ("_asked", "_entry")

    def __init__(self, definition: Definition[..., Any, Any], facts: RunFacts, driver: Driver) -> None:
        self.definition = definition
        self.facts = facts
        self.driver = driver
        self._asked = False
        self._entry: Entry | None = None

    @property
    def closed(self) -> bool:
        """Whether an entry that closes the run is in its history, or on its way there."""
        return self._asked

    @property
    def undoing(self) -> bool:
        """Whether something is being undone, which no deadline ends."""
        return self._asked or bool(self.driver.ledger.open)

    def limit(self, deadline: datetime | None) -> datetime | None:
        """The deadline, as long as it may end the run."""
        return None if deadline is None or self.undoing else deadline

    def deliver(self, entry: Entry) -> None:
        """The run is closed: undo what it did."""
        self._asked = True
        self._entry = entry
        self.driver.undo(entry.index)

    def close(self, now: datetime, deadline: datetime | None, decision: Decision) -> bool:
        """Close the run when it is over and something is to be undone; whether it waits for that to be recorded."""
        if self._asked:
            return self._entry is None
        driver = self.driver
        if driver.ledger is NO_LEDGER or not driver.ledger.stands(driver.leaves.values()):
            return False
        finish = self._come_to(now, deadline)
        if not is_undone(finish):
            return False
        self._asked = True
        decision.entries.append(closing_entry(finish))
        return True

    def finish(self, now: datetime, deadline: datetime | None) -> Finish | None:
        """What the run comes to, now that nothing is to be undone any more; None: it goes on."""
        driver = self.driver
        if self._asked:
            return closed(self._entry, driver.ledger.not_undone) if self._entry is not None and driver.undone else None
        if driver.root_end is not None:
            return finished(self, driver.root_end)
        finish = self._come_to(now, deadline)
        if finish is not None:
            driver.cut_all()
        return finish

    def _come_to(self, now: datetime, deadline: datetime | None) -> Finish | None:
        root_end = self.driver.root_end
        if root_end is not None:
            return finished(self, root_end)
        limit = self.limit(deadline)
        return overdue(self, limit) if limit is not None and now >= limit else None
