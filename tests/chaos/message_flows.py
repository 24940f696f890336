"""Workflows that are told something: signals, events, tokens, and what an operator decides."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from flowgen import (
    Checkpoint,
    CompletionToken,
    Context,
    Emit,
    Flow,
    Gather,
    On,
    Race,
    Retry,
    Signal,
    Sleep,
    Start,
    Step,
    Transaction,
    Wait,
    WaitEvent,
    WaitFailed,
    WaitSignal,
    current,
)
from tests.chaos import bodies, outside, witness
from tests.chaos.bodies import app, witnessed
from tests.chaos.expected import news_of, pause, pick, words_of
from tests.chaos.flows import see

__all__ = ["app"]

PATIENT = Retry(40, initial=0.2, maximum=1)
"""Of what happens outside: as long as the server is away."""


def heard(what: str, place: int, value: Any) -> None:
    witness.say("heard", run=str(current().task_uuid), what=what, place=place, value=value)


def _next(wait: Any, key: str, page: int, races: bool) -> Generator[Any, Any, Any]:
    """What comes next: by a wait that stands alone, or by one that loses races until it wins one."""
    if not races:
        return (yield from see(key, wait, page))
    while True:
        won = yield Race(told=wait, late=Sleep(0.4))
        if won.tag == "told":
            return won.value


@app.workflow
def listener(ctx: Context, n: int, many: int) -> Flow[list[int]]:
    """Reads what it is sent, each once and in order."""
    got: list[int] = ctx.accumulated_results or []
    races, saves = pick(n, "races", 2) == 1, pick(n, "saves", 2) == 1
    for k in range(ctx.checkpoint_cursor or 0, many):
        key = "signal:s" if saves or k == 0 else f"signal:s#{k + 1}"
        value = yield from _next(WaitSignal("s", int), key, k if saves else 0, races)
        heard("signal", k, value)
        got = [*got, value]
        if saves:
            yield Checkpoint(k + 1, k + 1, got)
    return got


@app.workflow
def chat(n: int) -> Flow[list[int]]:
    """Sends to a child in every way that there is."""
    many = words_of(n)
    ref = yield from see("child", Start(listener, n, many).opts(name="child"))
    to = str(ref.run_id)
    for k in range(many):
        payload, name = n * 100 + k, f"send{k}"
        match pick(n, name, 3):
            case 0:
                send: Any = Signal(ref, "s", payload)
            case 1:
                send = Step(outside.signal_once, to, payload).opts(retry=PATIENT)
            case _:
                send = Transaction(outside.signal_by_sql, to, payload)
        yield from see(name, send.opts(name=name))
    return list((yield from see("wait:child", Wait(ref).opts(name="wait:child"))))


@app.task(on="chaos.news")
def reported(n: int, k: int) -> int:
    """Triggered by each event."""
    with witnessed() as told:
        told.value = n + k
    return n + k


@app.workflow(on=On("chaos.news", when={"k": 0}))
def headline(n: int, k: int) -> Flow[int]:
    """Triggered by the first event of each."""
    return int((yield from see("add", Step(bodies.add, n, k, pause(n, "headline")))))


@app.workflow
def hearer(ctx: Context, n: int, many: int, which: int) -> Flow[list[int]]:
    """Is given each event once, and in order, beside others who wait for the same."""
    got: list[int] = ctx.accumulated_results or []
    races, saves = pick(n, f"races {which}", 2) == 1, pick(n, f"saves {which}", 2) == 1
    for k in range(ctx.checkpoint_cursor or 0, many):
        key = "news" if saves else f"news{k}"
        wait = WaitEvent("chaos.news", {"n": n})
        if races:
            value = yield from _next(wait, key, 0, races)
        elif saves:
            value = yield from see("chaos.news", wait, k)
        else:
            value = yield from see(key, wait.opts(name=key))
        heard("event", k, value["k"])
        got = [*got, value["k"]]
        if saves:
            yield Checkpoint(k + 1, k + 1, got)
    return got


@app.workflow
def hub(n: int) -> Flow[list[list[int]]]:
    """Emits in every way that there is; two children, and two branches beside each other, are told."""
    many = news_of(n)
    refs = []
    for which in range(2):
        name = f"child{which}"
        refs.append((yield from see(name, Start(hearer, n, many, which).opts(name=name))))
    for k in range(many):
        payload, name = {"n": n, "k": k}, f"emit{k}"
        match pick(n, name, 3):
            case 0:
                emit: Any = Emit("chaos.news", payload)
            case 1:
                emit = Step(outside.emit_once, payload).opts(retry=PATIENT)
            case _:
                emit = Transaction(outside.emit_by_sql, payload)
        yield from see(name, emit.opts(name=name))
    waits = Gather(*(WaitEvent("chaos.news", {"n": n, "k": many - 1}) for _ in range(2)))
    last = yield from see("gather", waits, whole=True)
    found = [[each["k"] for each in last]]
    for which, ref in enumerate(refs):
        name = f"wait:child{which}"
        found.append((yield from see(name, Wait(ref).opts(name=name))))
    return found


@app.workflow
def promised(n: int) -> Flow[list[Any]]:
    """Waits for what somebody outside says, before, while and after that is said."""
    found: list[Any] = []
    for place in range(2):
        name = f"token{place}"
        token = yield from see(name, CompletionToken(int).opts(name=name))
        fails = pick(n, name, 3) == 0
        uses = Step(outside.fulfil, token, n, fails, pause(n, name)).opts(name=f"use{place}", retry=PATIENT)
        if place == 0:
            yield from see("use0", uses)
            uses = Sleep(0.2).opts(name="use0 again")
        try:
            pair = Gather(Wait(token).opts(name=f"wait{place}"), uses).opts(name=f"pair{place}")
            found.append((yield from see(f"pair{place}", pair, whole=True))[0])
        except WaitFailed as error:
            found.append(error.failure.message)
    return found


@app.workflow
def mended(n: int) -> Flow[list[int]]:
    """Fails, and goes on when an operator has decided about its step."""
    one = yield from see("add", Step(bodies.add, n, 0))
    two = yield from see("mend", Step(outside.mend, n).opts(name="mend", retry=PATIENT))
    three = yield from see("add#2", Step(bodies.add, n, 1, pause(n, "mended")))
    return [one, two, three]
