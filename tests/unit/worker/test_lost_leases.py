"""A worker whose lease ends at a bad moment: nothing of it waits for ever, and no agent of it ends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from flowgen import Checkpoint, Context, Flow, Gather, Invoke, Now, Retry, Sleep, Step, StepInterrupted, Transaction
from flowgen.core.definitions import DefinitionOptions, Task, Workflow
from flowgen.core.states import Status
from flowgen.failpoints import evicting
from flowgen.testing.simulation.choices import Choices
from flowgen.testing.simulation.plan import Plan
from flowgen.testing.simulation.requests import Request, lost_connection
from flowgen.testing.simulation.world import World

ONCE = DefinitionOptions(retry=Retry(1))


def charge(place: int) -> int:
    return place


def save(connection: Any, place: int) -> int:
    raise NotImplementedError


CHARGE: Task[..., Any, Any] = Task(charge, None, ONCE)


def of_a_child_with_an_id() -> Flow[Any]:
    yield Now()
    return (yield from Gather(Now(), Invoke(CHARGE, 1).opts(id="c-1")))


def of_a_transaction() -> Flow[Any]:
    return (yield from Gather(Transaction(save, 1), Step(charge, 2)))


def of_steps() -> Flow[Any]:
    for place in range(3):
        yield Step(charge, place)


def of_a_sleep() -> Flow[Any]:
    yield Sleep(5)


def of_pages(ctx: Context[Any]) -> Flow[Any]:
    for page in range(ctx.checkpoint_cursor or 0, 2):
        try:
            yield Step(charge, page).opts(at_most_once=True)
        except StepInterrupted:
            pass
        yield Checkpoint(page + 1)


def world_of(flow: Callable[[], Flow[Any]]) -> World:
    definition: Workflow[..., Any, Any] = Workflow(flow, "flow", ONCE)
    return World(Plan(definition=definition, input="{}", outcomes={save: 1}, workers=2), Choices(None))


def go_on(world: World, until: Callable[[], object], but: str = "") -> None:
    """Let happen what comes next, but for requests named `but`, until it is so."""
    for _ in range(100):
        if until():
            return
        for event, given in world._events(world._look()):
            if not (but and any(isinstance(each, Request) and each.name == but for each in given)):
                event(*given)
                break
    raise AssertionError("it never came to that")


def lose_the_lease(world: World) -> None:
    """The first worker's lease ends, a sweep takes its run, and it learns of it."""
    worker = world.workers[0]
    world.store.now += timedelta(seconds=16)
    assert world.store.reap() == 1
    worker.loop.run(worker.holder.over)


def asks_for(world: World, name: str) -> Request | None:
    return next((each for each in world.workers[0].requests if each.name == name), None)


def lose_the_answer(world: World, name: str) -> None:
    """What the first worker asks for is carried out, and it hears of a lost connection."""
    worker, asked = world.workers[0], asks_for(world, name)
    assert asked is not None
    asked.carry_out()
    worker.requests.remove(asked)
    worker.loop.run(lambda: asked.fail(lost_connection()))


@pytest.mark.skipif(evicting(), reason="the story is of a run that goes on in one claim")
@pytest.mark.parametrize(("flow", "late"), [(of_a_child_with_an_id, ""), (of_a_transaction, "flush")])
def test_nobody_waits_for_a_part_that_the_lost_session_had_on_its_way(flow: Any, late: str) -> None:
    world = world_of(flow)
    worker = world.workers[0]
    go_on(world, lambda: asks_for(world, "flush") and worker.loop.pauses, but=late)
    lose_the_lease(world)
    for _ in range(3):
        while worker.loop.pauses:
            waiting = len(worker.loop.pauses)
            for _ in range(waiting):
                worker.loop.wake(0)
            if len(worker.loop.pauses) == waiting:
                break
    assert not worker.loop.pauses
    world.run()
    assert world.root.status == Status.COMPLETED
    world.close()


def test_a_lease_that_ends_while_a_lost_answer_is_read_back_ends_no_agent() -> None:
    world = world_of(of_steps)
    worker = world.workers[0]
    go_on(world, lambda: asks_for(world, "flush"))
    lose_the_answer(world, "flush")
    go_on(world, lambda: asks_for(world, "read_back"))
    worker.stalled = True
    world.store.now += timedelta(seconds=16)
    assert world.store.reap() == 1
    world._start(world.workers[1])
    go_on(world, lambda: world.root.owner not in (None, worker.holder.current.id))
    worker.stalled = False
    read_back = asks_for(world, "read_back")
    assert read_back is not None
    world.server.serve(worker, read_back)
    assert not worker.runner.live
    world.run()
    assert world.root.status == Status.COMPLETED
    world.close()


def test_a_run_that_was_claimed_unheard_is_given_back_though_the_epoch_moves_on() -> None:
    world = world_of(of_steps)
    worker = world.workers[0]
    go_on(world, lambda: asks_for(world, "claim"))
    lose_the_answer(world, "claim")
    go_on(world, lambda: asks_for(world, "release"))
    worker.loop.run(lambda: worker.loop.agent(worker.holder.renew(worker.link)))  # as after another lost answer
    renewal = asks_for(world, "resolve_unknown")
    assert renewal is not None
    world.server.serve(worker, renewal)
    world.run()
    assert world.root.status == Status.COMPLETED
    world.close()


@pytest.mark.skipif(evicting(), reason="the story is of a run that goes on in one claim")
def test_a_run_that_was_claimed_unheard_is_given_back_though_its_hang_up_is_not_known_yet() -> None:
    world = world_of(of_a_sleep)
    worker = world.workers[0]
    go_on(world, lambda: world.root.dues and asks_for(world, "flush"))
    lose_the_answer(world, "flush")
    assert world.root.status == Status.WAITING
    world.store.now += timedelta(seconds=6)
    world.store.promote()
    world._claim(worker, [world.root])
    lose_the_answer(world, "claim")
    assert worker.runner.live[world.root.run_id].claimed.claim < world.root.claim
    worker.loop.run(worker.give_back)
    while worker.giving_back:
        world.server.serve(worker, worker.requests[0])
    assert world.root.status == Status.READY
    world.run()
    assert world.root.status == Status.COMPLETED
    world.close()


def test_a_run_that_was_claimed_unheard_is_given_back_though_its_row_is_locked_for_a_while() -> None:
    world = world_of(of_steps)
    worker = world.workers[0]
    go_on(world, lambda: asks_for(world, "claim"))
    lose_the_answer(world, "claim")
    go_on(world, lambda: asks_for(world, "release"))
    release = asks_for(world, "release")
    assert release is not None
    world.store.locked = release.rows()
    release.carry_out()
    world.store.locked = ()
    world.server.answer(worker, release)
    assert world.root.status == Status.RUNNING
    world.run()
    assert world.root.status == Status.COMPLETED
    world.close()


def test_a_late_call_of_a_segment_that_is_over_is_not_taken_for_one_of_the_next() -> None:
    world = world_of(of_pages)
    worker = world.workers[0]
    go_on(world, lambda: worker.executor.jobs)
    worker.stalled = True
    world.store.now += timedelta(seconds=16)
    assert world.store.reap() == 1
    world._start(world.workers[1])
    go_on(world, lambda: world.root.base and world.workers[1].executor.jobs)
    world.calling.call(worker, worker.executor.jobs[0])
    world.run()
    assert world.root.status == Status.COMPLETED
    assert [call.args for call in world.witness.calls] == [(0,), (1,)]
    world.close()
