"""Starts the runs of schedules whose time has come: one run a tick, in the transaction that moves the next time.

Every worker does it; a due schedule that another one holds is skipped. Code schedules are declared when a worker
starts: it touches only those of its own code.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from flowgen.core.cron import CronSpec, next_after
from flowgen.core.definitions import Definition
from flowgen.core.inputs import encode_input
from flowgen.errors import DatabaseError, DefinitionError
from flowgen.postgres import schedules
from flowgen.postgres.rows import ScheduleChange, ScheduleRow
from flowgen.worker.link import Link, backoff
from flowgen.worker.sessions import SessionHolder

__all__ = ["Scheduler", "declared", "following"]

_log = logging.getLogger("flowgen.worker")

TICKS = 100
"""Schedules that are moved in one transaction at the most."""


def declared(definitions: Iterable[Definition[..., Any, Any]], now: datetime) -> list[ScheduleChange]:
    """The schedules that the code declares: the n-th cron trigger of a definition is named cron, cron-2, ..."""
    changes: list[ScheduleChange] = []
    for definition in definitions:
        for place, cron in enumerate(definition.options.cron, start=1):
            arguments = definition.function.binder.bind((), dict(cron.args))
            changes.append(
                ScheduleChange(
                    target=definition.name,
                    name="cron" if place == 1 else f"cron-{place}",
                    cron=cron.expression,
                    timezone=cron.timezone,
                    input=encode_input(definition, definition.name, arguments),
                    queue=definition.options.queue,
                    priority=definition.options.priority,
                    kind=definition.kind,
                    origin="code",
                    next_at=next_after(CronSpec.parse(cron.expression, cron.timezone), now),
                )
            )
    return changes


def following(schedule: ScheduleRow, now: datetime) -> datetime:
    """The next time of a schedule after `now`. Raises DefinitionError for a zone that this machine does not know."""
    return next_after(CronSpec.parse(schedule.cron, schedule.timezone), now)


class Scheduler:
    """Ticks when the next time has come that it knows of; the janitor's looks tell it of schedules that changed."""

    def __init__(self, link: Link, session: SessionHolder, poke: Callable[[], None]) -> None:
        self._link = link
        self._session = session
        self._poke = poke
        self._next_at: datetime | None = None
        self._wake = asyncio.Event()
        self._unreadable: set[UUID] = set()

    def expect(self, next_at: datetime) -> None:
        """The schedules' next time, as it is now. One that is past is looked at again, however often it is told."""
        if next_at != self._next_at or self._session.clock.until(next_at) == 0:
            self._next_at = next_at
            self._wake.set()

    async def serve(self) -> None:
        """Tick until cancelled."""
        failures = 0
        while True:
            try:
                await self._tick()
                failures = 0
            except DatabaseError as error:
                if not error.transient:
                    raise
                failures += 1
                self._session.trouble(error, failures)
                await asyncio.sleep(backoff(failures))
            else:
                await self._rest()

    async def _tick(self) -> None:
        moved = TICKS
        while moved >= TICKS:
            ticked = await self._link.call(schedules.tick(self._following, limit=TICKS))
            moved = ticked.moved
            self._next_at = ticked.next_at
            if ticked.started:
                self._poke()

    def _following(self, schedule: ScheduleRow, now: datetime) -> datetime | None:
        """None for a schedule that another machine has to read; said once."""
        try:
            return following(schedule, now)
        except DefinitionError as error:
            if schedule.schedule_id not in self._unreadable:
                self._unreadable.add(schedule.schedule_id)
                _log.error("the schedule %s/%s cannot tick here: %s", schedule.target, schedule.name, error)
            return None

    async def _rest(self) -> None:
        """Until the next time has come. None is known after a tick that found nothing: the next look tells."""
        while self._next_at is None or self._session.clock.until(self._next_at) > 0:
            seconds = None if self._next_at is None else self._session.clock.until(self._next_at) + 0.001
            try:
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
