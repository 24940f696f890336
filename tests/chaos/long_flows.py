"""Workflows that go on for long: in passes, and with steps that run ahead of their commits."""

from __future__ import annotations

from typing import Any

from flowgen import (
    Checkpoint,
    Context,
    ContinueAsNew,
    Flow,
    Gather,
    Invoke,
    Patch,
    SetDeadline,
    SetProgress,
    Step,
    Transaction,
    current,
)
from tests.chaos import bodies, witness
from tests.chaos.bodies import app
from tests.chaos.expected import lines_of, passes_of, pause, pick
from tests.chaos.flows import double, nap_for, see

__all__ = ["app"]


@app.workflow
def rounds(n: int, turn: int = 0, total: int = 0) -> Flow[dict[str, Any]]:
    """Passes that follow each other; what one has come to, it gives to the next."""
    witness.say("pass", run=str(current().task_uuid), turn=turn)
    yield from see("setprogress", SetProgress({"turn": turn}), turn)
    if turn == 1:
        yield from see("setdeadline", SetDeadline("3000d"), turn)
    new = yield from see("patch:way", Patch("way"), turn)
    total += yield from see("add", Step(bodies.add, n, turn, pause(n, f"turn {turn}"), turn), turn)
    total += yield from see("book", Transaction(bodies.book, 1, 0, 0.03, turn), turn)
    if pick(n, f"kid {turn}", 3) == 0:
        yield from see("double", Invoke(double, n + turn, 2), turn)
    elif turn % 2:
        yield from nap_for("sleep", 0.2, turn)
    if turn + 1 < passes_of(n):
        return (yield from ContinueAsNew(n, turn + 1, total))
    return {"turns": turn + 1, "total": total, "new": new}


@app.workflow(durability="checkpoint")
def ahead(ctx: Context, n: int) -> Flow[int]:
    """Steps are told before they are committed; the Transactions and the checkpoints between them commit."""
    total: int = ctx.accumulated_results or 0
    for line in range(ctx.checkpoint_cursor or 0, lines_of(n)):
        for key in ("add", "add#2", "add#3"):
            total += yield from see(key, Step(bodies.add, n, line, pause(n, f"{line} {key}", 0.03), line), line)
        if line % 3 == 0:
            yield from see("book", Transaction(bodies.book, 1, 0, 0.02, line), line)
            total += yield from see("add#4", Step(bodies.add, n, 0, 0.01, line), line)
        elif line % 3 == 1:
            yield Checkpoint()
            pair = Gather(*(Step(bodies.add, n, k, 0.02, line) for k in range(2)))
            total += sum((yield from see("gather", pair, line, whole=True)))
        yield Checkpoint(line + 1, line + 1, total)
    return total
