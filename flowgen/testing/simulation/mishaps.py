"""What may happen at any moment, to any worker or run: the part of a schedule that is not the next event.

Nothing here is drawn when nothing is to go wrong. The invariant: everything that happens here can happen to a real
system at this moment.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from flowgen.core.entries import Message, MessageKind
from flowgen.core.states import FINAL
from flowgen.testing.simulation import clients

if TYPE_CHECKING:
    from flowgen.testing.simulation.worker import Worker
    from flowgen.testing.simulation.world import World

__all__ = ["count", "happen"]

_JUMPS: Final = (0.5, 3, 30, 600)


def _crash(world: World, worker: Worker) -> None:
    if worker.alive:
        world.crash(worker)


def _stall(world: World, worker: Worker) -> None:
    if worker.up:
        world.stall(worker)


def _go_mute(world: World, worker: Worker) -> None:
    if worker.up and not worker.mute:
        world.tell(worker, "gives no more signs of life, and goes on")
        worker.mute = True


def _stop(world: World, worker: Worker) -> None:
    if worker.up and not worker.stopping and not worker.holder.fenced:
        world.tell(worker, "is asked to stop")
        worker.stop()


def _lose_cache(world: World, worker: Worker) -> None:
    if worker.up:
        world.tell(worker, "drops its cache")
        worker.runner.cache.drop()


def _hear_again(world: World, worker: Worker) -> None:
    if worker.up and not worker.hearing and not worker.holder.fenced:
        world.hear(worker)


def _jump(world: World, worker: Worker) -> None:
    world.move_by(timedelta(seconds=_JUMPS[worker.number % len(_JUMPS)]))


def _tell_twice(world: World, worker: Worker) -> None:
    """The letter of a child comes a second time, under a number of its own."""
    for row in world.store.runs.values():
        letters: list[Message] = [each for each in row.inbox.values() if each.kind == MessageKind.CHILD]
        if letters and row.status not in FINAL:
            letter = letters[0]
            world.tell("the store", f"has a letter for {row.new.name} twice")
            world.store.tell(row.run_id, letter.key, letter.payload, urgent=True)
            return


def _pause(world: World, worker: Worker) -> None:
    world.tell("a client", f"pauses {world.root.new.name}")
    clients.pause(world.store, world.root.run_id)


def _cancel(world: World, worker: Worker) -> None:
    world.tell("a client", f"cancels {world.root.new.name}")
    clients.cancel(world.store, world.root.run_id)


_ALWAYS: Final[tuple[Callable[[World, Worker], None], ...]] = (_jump, _lose_cache, _hear_again, _tell_twice)
_CRASHES: Final = (_crash, _stall, _go_mute, _stop, _pause)
_KINDS: Final = {
    (False, False): _ALWAYS,
    (False, True): (*_ALWAYS, _cancel),
    (True, False): (*_ALWAYS, *_CRASHES),
    (True, True): (*_ALWAYS, *_CRASHES, _cancel),
}


def count(world: World) -> int:
    """How many different things may happen now."""
    return len(_KINDS[world.plan.crashes, world.plan.cancels]) * len(world.workers)


def happen(world: World, number: int) -> None:
    """The thing of this number."""
    kinds = _KINDS[world.plan.crashes, world.plan.cancels]
    kinds[number % len(kinds)](world, world.workers[number // len(kinds) % len(world.workers)])
