"""The server and the way to it: what becomes of a request, of its answer, and of the worker that waits for it.

The invariant: whatever becomes of a request, the store has performed it whole or not at all.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import UUID

from flowgen.core.entries import Entry
from flowgen.postgres.rows import Session
from flowgen.testing.simulation.requests import FATES, LOCKED, REFUSED, Request, lost_connection

if TYPE_CHECKING:
    from flowgen.testing.simulation.worker import Worker
    from flowgen.testing.simulation.world import World

__all__ = ["Server"]

_COMMITS: Final = (0, 2, 3, 4)
"""What may become of the commit of a Transaction."""


class Server:
    """Comes to the requests of all workers."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.strays: list[Request] = []
        """Requests that nobody waits for, and that the server may come to yet."""

    def serve(self, worker: Worker, request: Request) -> None:
        fate = self._world.choices.rare(len(FATES)) if self._world.plan.crashes else self._world.choices.rare(2)
        if (fate == REFUSED and not request.is_refusable) or (fate == LOCKED and not request.is_lockable):
            fate = 0
        if self._world.story is not None and (fate or request.is_refusable):
            self._world.tell(worker, f"{request.describe()} {FATES[fate]}")
        match fate:
            case 1:
                request.carry_out()
            case 2 | 3:
                if fate == 2:
                    request.carry_out()
                self._fail(worker, request)
            case 4:
                self.strays.append(request)
                self._fail(worker, request)
            case 5 | 6:
                if fate == 5:
                    request.carry_out()
                self._world.crash(worker)
            case 7 | 8:
                if fate == 7:
                    request.carry_out()
                self._world.stall(worker)
            case 9:
                worker.requests.remove(request)
                worker.loop.run(partial(request.fail, request.refusal()))
            case _:
                self._world.store.locked = request.rows() if fate == LOCKED else ()
                request.carry_out()
                self._world.store.locked = ()
                self.answer(worker, request)

    def serve_unheard(self, worker: Worker, request: Request) -> None:
        """The server comes to it while the worker stands still."""
        request.carry_out()

    def answer(self, worker: Worker, request: Request) -> None:
        worker.requests.remove(request)
        worker.loop.run(request.answer)

    def _fail(self, worker: Worker, request: Request) -> None:
        worker.requests.remove(request)
        worker.loop.run(partial(request.fail, lost_connection()))

    def stray(self, request: Request) -> None:
        self.strays.remove(request)
        if not self._world.choices.rare(2):
            request.carry_out()
            self._world.tell("the server", f"comes to a late {request.name}")

    def finish_transaction(self, worker: Worker, session: Session, run_id: UUID, entry: Entry) -> datetime:
        """The commit of a Transaction. Raises DatabaseError when its answer is lost."""
        effect = partial(self._world.witness.effects.append, (run_id, entry.key))
        perform = partial(self._world.store.finish_transaction, session, run_id, entry, effect)
        fate = self._world.choices.rare(4) if self._world.plan.crashes else 0
        self._world.tell(worker, f"the commit of {entry.key!r} {FATES[(0, 2, 3, 4)[fate]]}")
        if fate == 3:
            self.strays.append(Request("commit", perform, _nothing, _nothing))
        elif fate != 2:
            now = perform()
            if not fate:
                return now
        raise lost_connection()


def _nothing(_: object) -> None:
    pass
