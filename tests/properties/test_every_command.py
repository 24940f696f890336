"""Every command is in the random programs, and `drive`, `replay` and `simulate` take it: a new one is missed here."""

from __future__ import annotations

import typing
import warnings
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from flowgen.core import driver, semantics
from flowgen.core.commands import (
    AnyCommand,
    Checkpoint,
    CompletionToken,
    ContinueAsNew,
    Emit,
    Flow,
    Gather,
    Graph,
    Invoke,
    Map,
    Now,
    Patch,
    Race,
    Random,
    Saga,
    Schedule,
    Scope,
    SetDeadline,
    SetProgress,
    Signal,
    Sleep,
    Start,
    Step,
    Transaction,
    Unschedule,
    Uuid,
    Wait,
    WaitEvent,
    WaitSignal,
)
from flowgen.core.context import Context
from flowgen.core.definitions import DefinitionOptions, Task, Workflow
from flowgen.core.entries import EntryKind
from flowgen.core.retry import Retry
from flowgen.testing import drive, replay, simulate

from .simulated import Example, verdict
from .test_simulation import examples

EVERY = {(typing.get_origin(each) or each).__name__ for each in typing.get_args(AnyCommand)}
PROGRAMS = 400
"""Random programs in which each command has to come; it comes in many more."""
ONCE = DefinitionOptions(retry=Retry(1))


class Asked(Counter[str]):
    """What handlers have yielded, and what joins have made themselves, such as Skip."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        super().__init__()
        ask, compose = semantics.ask, driver.compose

        def asked(leaf: Any, asking: Any) -> None:
            self[type(leaf.command).__name__] += 1
            ask(leaf, asking)

        def composed(branch: Any, command: Any, names: Any) -> Any:
            self[type(command).__name__] += 1
            return compose(branch, command, names)

        patch.setattr(semantics, "ask", asked)
        patch.setattr(driver, "compose", composed)


def test_every_command_is_in_the_random_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch)

    @settings(
        max_examples=PROGRAMS,
        deadline=None,
        phases=[Phase.generate],
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(examples)
    def each(example: Example) -> None:
        verdict(example).one([])

    each()
    assert EVERY - {name for name, count in asked.items() if count} == set()


def charge(n: int) -> int:
    return n + 1


def save(conn: Any, n: int) -> int:
    raise NotImplementedError


def child(n: int) -> int:
    return n * 2


def small(n: int) -> Flow[int]:
    return (yield from Step(charge, n))


CHILD: Task[..., Any, Any] = Task(child, None, ONCE)


def of_checkpoint(ctx: Context) -> Flow[int]:
    for page in range(ctx.checkpoint_cursor or 0, 2):
        yield Step(charge, page)
        yield Checkpoint(page + 1)
    return ctx.checkpoint_items_processed


def of_token() -> Flow[int]:
    token = yield from CompletionToken(int)
    return (yield from Wait(token))


def of_wait() -> Flow[int]:
    ref = yield from Start(CHILD, 4)
    return (yield from Wait(ref))


def of_signal(ctx: Context) -> Flow[str]:
    yield Signal(ctx.run_id, "mine", "hello")
    return (yield from WaitSignal("mine", str))


def of_race() -> Flow[list[Any]]:
    won = yield from Race(quick=Step(charge, 1), late=Sleep(600), never=WaitSignal("never"))
    return [won.tag, won.value]


def of_skip() -> Flow[list[str]]:
    nodes = Graph(
        Step(charge, 1).opts(name="first"),
        Step(charge, 2).opts(name="second", after="first", when=lambda done: done["first"] > 9),
    )
    return sorted((yield from nodes).skipped)


def of_saga() -> Flow[int]:
    undone = Step(charge, 1).opts(compensate=lambda value: Step(charge, value))
    return (yield from Saga(undone))


def of_continue(ctx: Context, n: int = 0) -> Flow[int]:
    yield Step(charge, n)
    if n < 2:
        return (yield from ContinueAsNew(n + 1))
    return n


def alone(command: Any) -> Any:
    def handler() -> Flow[Any]:
        return (yield from command())

    return handler


HANDLERS: dict[str, tuple[Any, Any]] = {
    "Step": (alone(lambda: Step(charge, 1)), 2),
    "Transaction": (alone(lambda: Transaction(save, 1)), 7),
    "Sleep": (alone(lambda: Sleep("30d")), None),
    "Invoke": (alone(lambda: Invoke(CHILD, 3)), 6),
    "Start": (of_wait, 8),
    "Wait": (of_wait, 8),
    "Checkpoint": (of_checkpoint, 0),
    "Schedule": (alone(lambda: Schedule(CHILD.call(1), "s", cron="* * * * *")), None),
    "Unschedule": (alone(lambda: Unschedule(CHILD, "s")), None),
    "WaitSignal": (alone(lambda: WaitSignal("outside", str)), "told"),
    "Signal": (of_signal, "hello"),
    "CompletionToken": (of_token, 5),
    "Emit": (alone(lambda: Emit("happened", 1)), ...),
    "WaitEvent": (alone(lambda: WaitEvent("paid", {"id": 7})), {"id": 7}),
    "Gather": (alone(lambda: Gather(Step(charge, 1), Sleep(2))), [2, None]),
    "Map": (alone(lambda: Map(charge, [1, 2], limit=1)), [2, 3]),
    "Race": (of_race, ["quick", 2]),
    "Graph": (of_skip, ["second"]),
    "Skip": (of_skip, ["second"]),
    "Saga": (of_saga, 2),
    "Scope": (alone(lambda: Scope("inside", small(3))), 4),
    "Now": (alone(Now), ...),
    "Uuid": (alone(Uuid), ...),
    "Random": (alone(Random), ...),
    "Patch": (alone(lambda: Patch("way")), True),
    "SetProgress": (alone(lambda: SetProgress({"done": 1})), None),
    "SetDeadline": (alone(lambda: SetDeadline("1d")), None),
    "ContinueAsNew": (of_continue, 2),
}
"""A handler with each command, and what it comes to; `...` is what nobody can say before."""
OUTCOMES: dict[Any, Any] = {save: 7, "outside": "told", "wait:token": 5, "paid": {"id": 7}}


def test_every_command_has_a_handler_here() -> None:
    assert HANDLERS.keys() == EVERY


@pytest.mark.parametrize("name", HANDLERS)
@pytest.mark.parametrize("durability", ["step", "checkpoint"])
def test_drive_replay_and_simulate_take_every_command(
    name: str, durability: typing.Literal["step", "checkpoint"], monkeypatch: pytest.MonkeyPatch
) -> None:
    fn, comes_to = HANDLERS[name]
    flow: Workflow[..., Any, Any] = Workflow(fn, "flow", DefinitionOptions(retry=Retry(1), durability=durability))
    asked = Asked(monkeypatch)
    trace = drive(flow.call(), outcomes=OUTCOMES, run=True)
    assert asked[name], asked
    assert trace.status == "completed"
    assert comes_to is ... or trace.result == comes_to
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert replay(flow, trace) == trace.result
    asked.clear()
    ended = simulate(flow.call(), outcomes=OUTCOMES, schedules=15, invariant=lambda run: run.status == "completed")
    assert asked[name], asked
    assert comes_to is ... or ended.result == comes_to
    assert not [entry for entry in ended.trace.items if entry.kind == EntryKind.SET_ASIDE]
    simulate(flow.call(), outcomes=OUTCOMES, schedules=8, cancels=True, invariant=lambda run: True)
