"""Who waits for which run: one question per tick for all waiters of a client.

One of the waiters leads: it asks for all of them and hands the lead on when its own run has ended. So a lone waiter
needs no second thread, and a thousand cost one query per tick. Never asks and never waits itself (see `plans`). The
invariant: while anybody waits, exactly one leads.
"""

from __future__ import annotations

from collections.abc import Iterable
from threading import Lock
from typing import Final
from uuid import UUID

import attrs

from flowgen.client.plans import Bell
from flowgen.postgres.rows import Ended

__all__ = ["Ticket", "Waiters"]

_FIRST: Final = 0.0002
_LONGEST: Final = 0.25
_GROWTH: Final = 1.2
_PER_WAITER: Final = 0.000_02
"""Seconds that a tick takes longer for each waiter, so that many of them do not make the database busy with asking."""


@attrs.define(eq=False)
class Ticket:
    """One waiter. The bell rings when `ended` or `leading` has changed, or when the leader should ask at once."""

    run_id: UUID
    bell: Bell
    ended: Ended | None = None
    leading: bool = False


@attrs.define(eq=False)
class Waiters:
    """All waiters of one client."""

    _lock: Lock = attrs.field(factory=Lock, init=False)
    _tickets: dict[UUID, list[Ticket]] = attrs.field(factory=dict[UUID, list[Ticket]], init=False)
    _leader: Ticket | None = attrs.field(default=None, init=False)
    _interval: float = attrs.field(default=_FIRST, init=False)

    def join(self, run_id: UUID, bell: Bell) -> Ticket:
        """A new waiter: it leads when nobody does, else the leader asks soon."""
        ticket = Ticket(run_id, bell)
        with self._lock:
            self._tickets.setdefault(run_id, []).append(ticket)
            self._interval = _FIRST
            if self._leader is None:
                self._leader = ticket
                ticket.leading = True
            else:
                self._leader.bell.set()
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """It waits no longer; another one leads when it did."""
        with self._lock:
            mine = self._tickets[ticket.run_id]
            mine.remove(ticket)
            if not mine:
                del self._tickets[ticket.run_id]
            if self._leader is ticket:
                self._leader = next((each[0] for each in self._tickets.values()), None)
                if self._leader is not None:
                    self._leader.leading = True
                    self._leader.bell.set()

    def asked(self) -> list[UUID]:
        """The runs to ask for: those that somebody waits for and whose end is not known."""
        with self._lock:
            return [run_id for run_id, tickets in self._tickets.items() if any(each.ended is None for each in tickets)]

    def deliver(self, found: Iterable[Ended]) -> None:
        """Tell the waiters what has ended."""
        with self._lock:
            for ended in found:
                for ticket in self._tickets.get(ended.run_id, ()):
                    ticket.ended = ended
                    ticket.bell.set()

    def interval(self) -> float:
        """Seconds until the next tick: short at first and after a join, then longer and longer."""
        with self._lock:
            seconds = self._interval
            self._interval = min(seconds * _GROWTH, _LONGEST)
            return max(seconds, _PER_WAITER * len(self._tickets))
