"""The functions of the workload. Each tells the witness when it begins and how it ends; none decides anything.

`segment` is the pass of a checkpoint loop in which the function was called: keys come again in each pass.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from flowgen import App, Cron, PermanentError, Retry, current
from tests.chaos import witness
from tests.chaos.expected import LARGEST, size_of

app = App(name="chaos")

LEDGER = """
    INSERT INTO chaos.ledger (run, key, segment) VALUES (%s, %s, %s)
    ON CONFLICT (run, key, segment) DO UPDATE SET n = chaos.ledger.n + 1
"""


class Wobble(Exception):
    """A failure that passes."""


def place(segment: int) -> dict[str, Any]:
    """Which call this is."""
    context = current()
    step = context._step
    return {"run": str(context.task_uuid), "key": step.key if step else "", "seg": segment, "attempt": context.attempt}


class Told:
    """What a function gives back, told to the witness before the engine hears of it."""

    value: Any = None


@contextmanager
def witnessed(segment: int = 0, *, once: bool = False, tx: bool = False) -> Iterator[Told]:
    """Tell of the beginning and the end of a function: `once` of at most once, `tx` of a Transaction."""
    facts = place(segment)
    witness.say("enter", **facts, **{name: True for name, so in (("once", once), ("tx", tx)) if so})
    told = Told()
    try:
        yield told
    except BaseException as error:
        witness.say("raise", **facts, error=type(error).__name__)
        raise
    witness.say("exit", **facts, value=witness.of_value(told.value))


def spend(seconds: float) -> None:
    """Take time on a thread; a call that nobody wants any more ends early."""
    current().signal.wait(seconds)


@app.task(retry=Retry(3, initial=0.05))
def add(a: int, b: int, seconds: float = 0.0, segment: int = 0) -> int:
    with witnessed(segment) as told:
        spend(seconds)
        told.value = a + b
    return a + b


async def add_async(a: int, b: int, seconds: float = 0.0) -> int:
    with witnessed() as told:
        await asyncio.sleep(seconds)
        told.value = a + b
    return a + b


@app.task(retry=Retry(4, initial=0.05))
def lone(n: int) -> int:
    with witnessed() as told:
        spend(0.05)
        if current().attempt <= n % 3:
            raise Wobble(f"attempt {current().attempt}")
        told.value = n + 1
    return n + 1


def flaky(value: int, fails: int, seconds: float = 0.0) -> int:
    with witnessed() as told:
        spend(seconds)
        if current().attempt <= fails:
            raise Wobble(f"attempt {current().attempt}")
        told.value = value
    return value


async def flaky_async(value: int, fails: int) -> int:
    with witnessed() as told:
        await asyncio.sleep(0.02)
        if current().attempt <= fails:
            raise Wobble(f"attempt {current().attempt}")
        told.value = value
    return value


def broken() -> int:
    with witnessed():
        raise ValueError("broken")


async def refused() -> int:
    with witnessed():
        raise PermanentError("no")


def stuck() -> int:
    with witnessed() as told:
        spend(30)
        told.value = 0
    return 0


async def stuck_async() -> int:
    with witnessed() as told:
        await asyncio.sleep(30)
        told.value = 0
    return 0


def once_only(value: int, seconds: float, fails: int = 0) -> int:
    with witnessed(once=True) as told:
        spend(seconds)
        if current().attempt <= fails:
            raise Wobble(f"attempt {current().attempt}")
        told.value = value
    return value


def book(conn: Any, value: int, fails: int = 0, seconds: float = 0.0, segment: int = 0) -> int:
    """Add one to the ledger, in the transaction that also holds the outcome."""
    with witnessed(segment, tx=True) as told:
        facts = place(segment)
        conn.execute(LEDGER, (facts["run"], facts["key"], segment))
        spend(seconds)
        if current().attempt <= fails:
            raise ValueError("after the write")
        told.value = value
    return value


async def book_async(conn: Any, value: int, fails: int = 0, seconds: float = 0.0) -> int:
    with witnessed(tx=True) as told:
        facts = place(0)
        await conn.execute(LEDGER, (facts["run"], facts["key"], 0))
        await asyncio.sleep(seconds)
        if current().attempt <= fails:
            raise ValueError("after the write")
        told.value = value
    return value


@app.task
def tick(n: int) -> int:
    """What the dynamic schedules start."""
    with witnessed() as told:
        told.value = n
    return n


def draw(seconds: float = 0.0) -> dict[str, Any]:
    """Another value each time it is called, and numbers that a careless store would change."""
    with witnessed() as told:
        spend(seconds)
        told.value = {"z": secrets.token_hex(8), "a": 1e22, "m": -0.0, "many": 2**70}
    return dict(told.value)


def blob(n: int) -> str:
    with witnessed() as told:
        told.value = "x" * size_of(n)
    return str(told.value)


def measure(text: str) -> int:
    with witnessed() as told:
        told.value = len(text)
    return len(text)


def too_large() -> str:
    with witnessed() as told:
        told.value = "x" * (LARGEST + 1)
    return str(told.value)


def strange_value(kind: str) -> Any:
    found: dict[str, Any] = {"nan": float("nan"), "surrogate": "\ud800", "naive": datetime(2026, 1, 1)}
    with witnessed():
        pass
    return found[kind]


DEATH = 86
"""Exit code of a worker process that poison killed."""


def die() -> None:
    """End the process from within, as a crash of native code would."""
    with witnessed():
        witness.say("die", **place(0))
        os._exit(DEATH)


def beat(place: int) -> int:
    """What the static schedules start, each once a second."""
    with witnessed() as told:
        told.value = place
    return place


BEATS = 5
beats = [app.task(name=f"beat{place}", cron=Cron("* * * * * *", args={"place": place}))(beat) for place in range(BEATS)]
