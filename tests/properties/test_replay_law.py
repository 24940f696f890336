"""The replay law: an execution over any prefix of a history, and the live one that made it, are in the same state."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import event, given
from hypothesis import strategies as st

from flowgen.core.decision import Failed, Parked
from flowgen.core.entries import EntryKind

from .handlers import DEPLOYED, Program, definitions, programs
from .world import World

ACTIONS = 600


def shown(finish: Any) -> Any:
    if isinstance(finish, Failed):
        return "failed", finish.failure.type, finish.failure.message, finish.retry_after
    return finish


def is_started(world: World, key: str, attempt: int) -> bool:
    """Whether an at-most-once call is in flight: the one thing that a replay sees otherwise."""
    entries = [e for e in world.history if e.key == key and e.index > world.base and e.kind == EntryKind.STARTED]
    return bool(entries) and entries[-1].attempt == attempt


def check_law(world: World) -> None:
    """Compare the live execution with a new one over what is durable."""
    world.advance()
    if world.finish is not None or world.flying or any(each.entry.key == "" for each in world.pending):
        return  # a cancellation that is not durable yet is not known to a replay
    asked = {leaf.key for leaf in world.live.outstanding()}
    if any(each.entry.key not in asked for each in world.pending):
        return  # nor is what comes of a command that was cut off, which whoever undoes waits for
    replica = world.fresh()
    decision = replica.advance(world.now)
    assert replica.finish is None, replica.finish
    live, again = world.asked(world.live, None), world.asked(replica, decision)
    for key, (mark, named, what) in live.items():
        if what[0] == "call" and is_started(world, key, what[1]):
            again[key] = (mark, named, what)
    assert again == live
    assert list(again) == list(live)
    assert replica.context.services == world.live.context.services
    assert replica.busy == bool(decision.calls or decision.entries)
    if not world.pending and not world.calls and all(what[0] != "later" for _, _, what in again.values()):
        assert decision.hang_up == world.hang_up
    replica.close()


def run(program: Program, seed: int, attempts: int, cancels: bool, crashes: bool, deploys: bool = False) -> World:
    """`deploys`: the code that guards its changes comes with a crash."""
    random = Random(seed)
    DEPLOYED[0] = not deploys
    world = World(definitions(attempts), program, random)
    for turn in range(ACTIONS):
        if world.finish is not None:
            break
        choices = [world.tick, world.advance]
        if world.flying:
            choices += [world.land] * 6
        elif world.pending:
            choices += [world.flush] * 6
        if world.calls:
            choices += [world.settle] * 4
        if world.children:
            choices += [world.child_ends] * 2
        if world.waits:
            choices += [world.event_comes] * 2
        if world.tokens:
            choices += [world.token_is_used] * 2
        if cancels and turn > 5 and random.random() < 0.05:
            choices = [world.cancel]
        if crashes and random.random() < 0.05 and not world.flying:
            choices = [world.crash]
            DEPLOYED[0] = DEPLOYED[0] or random.random() < 0.5
        random.choice(choices)()
        if not world.flying and world.finish is None:
            check_law(world)
    return world


@given(
    program=programs(),
    seed=st.integers(0, 2**32),
    attempts=st.sampled_from([1, 1, 2]),
    cancels=st.booleans(),
    crashes=st.booleans(),
    deploys=st.booleans(),
)
def test_a_replay_is_where_the_live_run_is(
    program: Program, seed: int, attempts: int, cancels: bool, crashes: bool, deploys: bool
) -> None:
    world = run(program, seed, attempts, cancels, crashes, deploys)
    event(f"ended as {type(world.finish).__name__}")
    assert not isinstance(world.finish, Parked), world.finish.detail
    if world.finish is None:
        return
    replica = world.fresh()
    decision = replica.advance(world.now)
    assert shown(decision.finish) == shown(world.finish)
    assert replica.context.services == world.live.context.services
    replica.close()
    world.live.close()
