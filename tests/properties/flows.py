"""Workflows with what random handlers do not have: ids of children, deadlines, timeouts, detached children, retries."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from flowgen import (
    Cancelled,
    Checkpoint,
    Context,
    ContinueAsNew,
    Emit,
    Flow,
    Gather,
    Invoke,
    Now,
    OutcomeError,
    Patch,
    PermanentError,
    Race,
    Retry,
    Saga,
    Scope,
    SetDeadline,
    SetProgress,
    Signal,
    Sleep,
    Start,
    Step,
    Transaction,
    Wait,
    WaitEvent,
    WaitSignal,
)
from flowgen.core.definitions import DefinitionOptions, Task, Workflow
from flowgen.testing.simulated import Simulated

ONCE = DefinitionOptions(retry=Retry(1))


def charge(place: int) -> str:
    return f"charge {place}"


def refund(charged: str) -> None:
    return None


def refuse() -> None:
    raise PermanentError("no")


def save(connection: Any, place: int) -> str:
    raise NotImplementedError


OUTCOMES: dict[Any, Any] = {save: lambda place: f"saved {place}", "paid": {"id": 7}}


def slow() -> Flow[str]:
    yield Sleep(5)
    yield Step(charge, 9)
    return "slow"


def failing() -> Flow[str]:
    yield Step(charge, 8)
    raise ValueError("the child's own")


def quick(place: int) -> str:
    return f"quick {place}"


SLOW: Workflow[..., Any, Any] = Workflow(slow, None, ONCE)
FAILING: Workflow[..., Any, Any] = Workflow(failing, None, DefinitionOptions(retry=Retry(2, initial=1)))
QUICK: Task[..., Any, Any] = Task(quick, None, DefinitionOptions(retry=Retry(2)))


def of_ids() -> Flow[list[Any]]:
    """Two branches wait for one run, and a third only starts it."""
    ref = yield from Start(QUICK, 1).opts(id="q-1")
    found = yield from Gather(Invoke(QUICK, 1).opts(id="q-1"), Invoke(QUICK, 1).opts(id="q-1"), Step(charge, 1))
    return [*found, (yield from Wait(ref)), (yield from Invoke(SLOW).opts(id="s-1"))]


def of_a_conflict() -> Flow[Any]:
    """The id is taken by a run with another input."""
    yield from Invoke(QUICK, 1).opts(id="q-1")
    try:
        return (yield from Invoke(QUICK, 2).opts(id="q-1"))
    except OutcomeError as error:
        return error.failure.type


def of_timeouts() -> Flow[list[Any]]:
    """Children that take longer than is waited for them."""
    found: list[Any] = []
    ref = yield from Start(SLOW)
    for command in (Invoke(SLOW).opts(timeout=2), Invoke(SLOW).opts(timeout=2, on_timeout="abandon"), Wait(ref)):
        try:
            found.append((yield from command))
        except OutcomeError as error:
            found.append(type(error).__name__)
    return found


def of_failures() -> Flow[Any]:
    """The first failure of a gather cuts the others off; a clean-up commits."""
    try:
        yield from Gather(Invoke(SLOW), Invoke(FAILING), Sleep(30), Transaction(save, 1))
    except OutcomeError:
        yield Step(charge, 2)
    finally:
        yield Transaction(save, 3)
    return "over"


def race() -> Flow[str]:
    """The failure ends it, and leaves a child that nobody waits for."""
    try:
        yield from Gather(Invoke(SLOW), Invoke(FAILING))
    except OutcomeError:
        return "lost"
    return "won"


def of_losers() -> Flow[str]:
    """A child ends while the loser of the branch beside it is being cancelled."""
    found = yield from Gather(race(), race(), Invoke(FAILING), return_exceptions=True)
    return f"{len(found)} branches"


def of_detached() -> Flow[str]:
    yield Start(SLOW).opts(detached=True)
    yield Start(SLOW)
    yield Sleep(1)
    raise ValueError("its children go different ways")


def of_clean_ups() -> Flow[str]:
    try:
        yield Scope("inside", slow())
        yield Sleep(60)
    except Cancelled:
        yield Step(charge, 4)
        raise
    return "not cancelled"


def of_pages(ctx: Context) -> Flow[int]:
    pages = yield from Step(charge, 0)
    total = (ctx.accumulated_results or {"n": 0})["n"]
    for page in range(ctx.checkpoint_cursor or 0, 3):
        yield Transaction(save, page)
        yield Invoke(QUICK, page)
        total += page
        yield Checkpoint(page + 1, page + 1, {"n": total})
    return total + len(pages)


def of_retries() -> Flow[str]:
    """The run is tried again, and keeps what went well."""
    yield Transaction(save, 1)
    yield Invoke(FAILING)
    return "never"


def listening(ctx: Context) -> Flow[list[int]]:
    """A loop that saves where it is after each signal."""
    found = ctx.accumulated_results or []
    for n in range(ctx.checkpoint_cursor or 0, 3):
        found = [*found, (yield from WaitSignal("n", int))]
        yield Checkpoint(n + 1, n + 1, found)
    return found


LISTENING: Workflow[..., Any, Any] = Workflow(listening, None, ONCE)


def of_signals() -> Flow[list[Any]]:
    """A child reads what its parent sends, each once and in order; whoever has ended is not told."""
    ref = yield from Start(LISTENING)
    for n in range(3):
        yield Signal(ref, "n", n)
    found = yield from Wait(ref)
    try:
        yield Signal(ref, "n", 3)
    except OutcomeError as error:
        return [found, error.failure.type]
    return [found]


def of_lost_waits(ctx: Context) -> Flow[list[Any]]:
    """Both are there when they race; the one that loses is read the next time."""
    yield Gather(*[Signal(ctx.run_id, name, name) for name in ("a", "b", "b")])
    won = []
    for _ in range(2):
        won.append((yield from Race(a=WaitSignal("a"), b=WaitSignal("b"))).value)
    both = yield from Gather(WaitSignal("b", timeout=60), WaitSignal("a", timeout=1), return_exceptions=True)
    return [sorted([*won, *[each if isinstance(each, str) else "none" for each in both]]), len(both)]


def of_cut_sends(ctx: Context, starts: bool = False) -> Flow[str]:
    """What stands in line to be sent or started, when its branch loses, belongs to no later segment."""
    for page in range(ctx.checkpoint_cursor or 0, 3):
        one: Any = Start(QUICK, page).opts(id=f"cut-{page}") if starts else Signal(ctx.run_id, "x", page)
        two: Any = Start(QUICK, page).opts(id=f"cut-{page}-2") if starts else Signal(ctx.run_id, "x", page)
        yield Race(one=one, now=Now(), two=two)
        yield Checkpoint(page + 1)
    return "over"


def of_cut_starts(ctx: Context) -> Flow[str]:
    return (yield from of_cut_sends(ctx, starts=True))


def of_events() -> Flow[list[Any]]:
    """A run is told of its own events and of others', in a race and beside each other."""
    found: list[Any] = []
    yield Emit("mine", {"n": 1})
    for _ in range(2):
        won = yield from Race(event=WaitEvent("paid", {"id": 7}), time=Sleep(3))
        found.append(won.tag)
    pair = yield from Gather(WaitEvent("mine", {"n": {"gt": 0}}), WaitEvent("mine"), Step(charge, 6))
    try:
        yield WaitEvent("mine", timeout=2)
    except OutcomeError as error:
        found.append(type(error).__name__)
    return [*found, *pair]


def of_many_events(ctx: Context) -> Flow[list[int]]:
    """A loop is given each event once, whatever its segments and its workers come to."""
    for n in range(4):
        yield Emit("n", n)
    heard: list[int] = ctx.accumulated_results or []
    while len(heard) < 4:
        heard = [*heard, (yield from WaitEvent("n"))]
        if len(heard) != 2:
            yield Checkpoint(len(heard), None, heard)
    if heard != [0, 1, 2, 3]:
        raise AssertionError(heard)
    return heard


def of_events_over_passes(ctx: Context, heard: list[int] | None = None) -> Flow[list[int]]:
    """Each pass is given the next event, though all were emitted in the first."""
    known = heard or []
    if not known:
        for n in range(4):
            yield Emit("n", n)
    won = yield from Race(event=WaitEvent("n"), other=WaitEvent("other"))
    known = [*known, won.value]
    if len(known) == 2 and not ctx.has_checkpoint():
        yield Checkpoint(1)
    yield Step(charge, len(known))
    if len(known) < 4:
        yield from ContinueAsNew(known)
    if known != [0, 1, 2, 3]:
        raise AssertionError(known)
    return known


def of_passes(n: int = 1) -> Flow[Any]:
    """The run goes on as new."""
    first = yield from Step(charge, n)
    yield SetProgress(n)
    yield SetDeadline("3000d")
    new = yield from Patch("way")
    yield Start(QUICK, n)
    yield Race(a=Step(charge, n + 10), b=Sleep(3))
    if n < 3:
        return (yield from ContinueAsNew(n + 1))
    return f"{first} {new} {(yield from Invoke(QUICK, n))}"


def flow(fn: Any, **options: Any) -> Workflow[..., Any, Any]:
    return Workflow(fn, None, DefinitionOptions(**{"retry": Retry(1), **options}))


def of_what_is_undone(place: int) -> Step[str]:
    return Step(charge, place).opts(compensate=lambda charged: Step(refund, charged))


def of_a_part() -> Flow[None]:
    yield of_what_is_undone(5)
    yield Step(refuse)


def of_sagas() -> Flow[None]:
    """A part is undone, then the whole."""
    yield of_what_is_undone(0)
    try:
        yield from Saga(of_a_part())
    except OutcomeError:
        yield Invoke(QUICK, 1).opts(compensate=Invoke(SLOW))
    yield Gather(of_what_is_undone(2), Transaction(save, 3).opts(compensate=Step(refuse)), Step(charge, 4))
    yield Sleep(3)
    yield Gather(of_what_is_undone(6), Step(refuse))


def of_steps_ahead(ctx: Context) -> Flow[int]:
    """Steps are told before they are committed, and everything else is not."""
    for place in range(ctx.checkpoint_cursor or 0, 3):
        yield Step(charge, place)
        yield Gather(Step(charge, place), Transaction(save, place), Invoke(QUICK, place).opts(id=f"a-{place}"))
        yield Step(charge, 10 + place).opts(at_most_once=True)
        yield Step(charge, place)
        yield Sleep(place)
        yield Checkpoint(place + 1)
    yield Step(charge, 7)
    return 3


FLOWS = [
    flow(of_ids),
    flow(of_a_conflict),
    flow(of_timeouts),
    flow(of_failures),
    flow(of_losers),
    flow(of_detached),
    flow(of_events),
    flow(of_events_over_passes),
    flow(of_many_events),
    flow(of_clean_ups),
    flow(of_pages),
    flow(of_signals),
    flow(of_lost_waits),
    flow(of_cut_sends),
    flow(of_cut_starts),
    flow(of_passes),
    flow(of_retries, retry=Retry(3, initial=2)),
    flow(of_timeouts, deadline=timedelta(seconds=4)),
    flow(of_sagas, retry=Retry(2, initial=2)),
    flow(of_sagas, deadline=timedelta(seconds=2)),
    flow(of_steps_ahead, durability="checkpoint"),
]


def nothing(run: Simulated) -> None:
    """Nothing more than is looked for in every run."""


def nothing_lost(run: Simulated) -> None:
    if run.status == "completed":
        assert run.result == [["a", "b", "b", "none"], 2], run.result


def each_once(run: Simulated) -> None:
    if run.status == "completed":
        assert run.result == [[0, 1, 2], "RunEnded"], run.result


INVARIANTS = {"of_lost_waits": nothing_lost, "of_signals": each_once}

__all__ = ["FLOWS", "INVARIANTS", "OUTCOMES", "nothing"]
