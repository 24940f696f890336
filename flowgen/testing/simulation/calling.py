"""Functions are called, and children that a test scripts come to their end.

The invariant: what the witness knows of a call it knows before the function is entered.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import attrs

from flowgen.core import codec
from flowgen.core.branches import Leaf
from flowgen.core.commands import Transaction
from flowgen.core.decision import Decision, FunctionCall
from flowgen.core.failures import failure_from, failure_to_json
from flowgen.core.functions import ContextKind, Flavour
from flowgen.core.states import Status
from flowgen.testing.scripts import UNSCRIPTED, as_error
from flowgen.testing.simulated import Called
from flowgen.testing.simulation.functions import Functions
from flowgen.testing.simulation.row import Row
from flowgen.testing.simulation.threads import Job
from flowgen.worker.executor import RunningCall
from flowgen.worker.live import LiveRun

if TYPE_CHECKING:
    from flowgen.testing.simulation.worker import Worker
    from flowgen.testing.simulation.world import World

__all__ = ["Calling"]


class Calling:
    """Calls what the workers want called."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._functions = Functions(world.plan.outcomes)
        self.children: dict[UUID, tuple[object, Any]] = {}
        """Children that no worker runs: what is scripted for them, and their commands."""

    def call(self, worker: Worker, job: Job) -> None:
        running, piece = job.running, job.piece
        fate = (
            self._world.choices.rare(5 if running is not None and running.call.timeout else 4)
            if self._world.plan.crashes
            else 0
        )
        if fate == 1:
            self._world.crash(worker)
            return
        if piece is not None:
            worker.executor.jobs.remove(job)
            if fate == 2:
                self._world.crash(worker)
            else:
                worker.loop.run(partial(_do, piece, job.future))
            return
        assert running is not None
        if running.over:
            worker.executor.jobs.remove(job)
            return
        self._begins(worker, running)
        if fate == 4:
            self._world.tell(worker, f"{running.call.key!r} takes longer than its timeout")
            worker.executor.jobs.remove(job)
            worker.loop.run(partial(worker.executor.time_out, running))
            return
        job.result = self._functions.call(running, self.place(running.run, running.call.key))
        if self._world.story is not None:
            self._world.tell(worker, f"{running.call.key!r}: {job.result}")
        if fate == 2:
            self._world.crash(worker)
        elif fate != 3:
            self.returned(worker, job)

    def returned(self, worker: Worker, job: Job) -> None:
        assert job.running is not None
        assert job.result is not None
        worker.executor.jobs.remove(job)
        worker.loop.run(partial(worker.executor.ended, job.running, job.result))

    def _begins(self, worker: Worker, running: RunningCall) -> None:
        run, call = running.run, running.call
        row = self._world.store.runs[run.run_id]
        called = Called(
            run.claimed.name, run.run_id, call.key, call.command.target, call.command.args, call.attempt,
            place=self.place(run, call.key), claim=run.claimed.claim,
        )  # fmt: skip
        owner = row.owner == worker.holder.current.id and row.claim == run.claimed.claim
        self._world.witness.begins(
            row,
            called,
            at_most_once=call.command.options.at_most_once,
            again=isinstance(call.command, Transaction),
            owner=owner and self._world.store.holds(worker.holder.current),
        )

    def scripted_for(self, run: LiveRun, leaf: Leaf) -> object:
        """What a test scripts for a command that waits for a message."""
        return self._functions.item(run.run_id, self.place(run, leaf.key), leaf.key, leaf.command, None)

    def place(self, run: LiveRun, key: str) -> tuple[int, int]:
        """Where in the run's history this call of the command is: see `Row.place_of`."""
        row = self._world.store.runs[run.run_id]
        return row.place_of(key, max(run.execution.base, run.claimed.floor), run.claimed.next_index)

    def scripted(self, worker: Worker, running: RunningCall) -> FunctionCall:
        """The call of a Transaction, of what the test scripts for it."""
        call = running.call
        command: Any = copy.copy(call.command)
        instead: Callable[..., Any] = _unscripted
        try:
            instead = self._functions.in_place_of(running, self.place(running.run, running.call.key))
        except AssertionError as error:
            self._world.broken = error

        def called(connection: Any, *args: Any, **kwargs: Any) -> Any:
            self._begins(worker, running)
            try:
                return instead(connection, *args, **kwargs)
            except AssertionError as error:
                self._world.broken = error
                raise

        function = attrs.evolve(call.command.function, fn=called, flavour=Flavour.PLAIN, context=ContextKind.NONE)
        object.__setattr__(command, "function", function)
        return attrs.evolve(call, command=command)

    def children_of(self, run: LiveRun, decision: Decision) -> None:
        """Children are about to be started."""
        for child in decision.children:
            definition, place = child.command.definition, self.place(run, child.key)
            item = self._functions.item(run.run_id, place, child.key, child.command, definition)
            if item is UNSCRIPTED:
                self._world.plan.met(definition)
            else:
                self.children[child.run_id] = item, child.command

    def child_ends(self, row: Row) -> None:
        """A child that is scripted comes to its end."""
        item, command = self.children[row.run_id]
        row.started = True
        error = as_error(item)
        try:
            if error is not None:
                raise error
            value = item(*command.args, **dict(command.kwargs)) if callable(item) else item
            row.output = codec.encode(value)
        except AssertionError:
            raise
        except Exception as raised:
            row.error = failure_to_json(failure_from(raised))
        self._world.tell("a scripted child", f"{row.new.name} ends")
        self._world.store.end(row, Status.COMPLETED if row.output is not None else Status.FAILED)


def _do(piece: Callable[[], Any], future: Any) -> None:
    """A thread does a piece of a Transaction, and its result arrives."""
    try:
        value = piece()
    except BaseException as error:
        if not future.done():
            future.set_exception(error)
    else:
        if not future.done():
            future.set_result(value)


def _unscripted(*_: object) -> None:
    raise AssertionError
