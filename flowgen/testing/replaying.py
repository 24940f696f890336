"""`replay`: run today's code over a recorded history and see whether it still fits."""

from __future__ import annotations

import warnings
from datetime import datetime
from hashlib import blake2b
from typing import Any, TypeVar, cast
from uuid import UUID

from flowgen.core import codec
from flowgen.core.context import RunFacts
from flowgen.core.decision import Completed, Failed
from flowgen.core.definitions import Definition
from flowgen.core.frames import location
from flowgen.core.history import History
from flowgen.core.interpreter import Execution
from flowgen.core.states import RunStatus
from flowgen.core.trace import Trace
from flowgen.errors import Divergence
from flowgen.testing.bench import BEGINNING

__all__ = ["replay"]

T = TypeVar("T")


def replay(definition: Definition[..., Any, T], trace: Trace[Any], /) -> T | None:
    """Run `definition` over the trace; calls no function. Returns what it returns, None when the trace ends before.

    Raises Divergence, with a diff and `file:line`, when the code yields other commands than are recorded, or goes on
    or fails where the recorded run completed; CodecError when a value cannot be read by today's types. Arguments that
    differ are a warning, unless the definition says determinism="strict".
    """
    history = History.of(trace.items, base=trace.base, prologue=trace.prologue)
    history.ended = trace.status == RunStatus.COMPLETED
    execution = Execution(
        definition,
        RunFacts(run_id=trace.run_id or "", uuid=_uuid(trace.run_id), name=definition.name, resumed=True),
        trace.input,
        history,
        entropy=lambda size: blake2b(digest_size=size).digest(),
        created_at=trace.items[0].recorded_at if trace.items else BEGINNING,
    )
    try:
        decision = execution.advance(_end(trace))
        for text in decision.warnings:
            warnings.warn(text, stacklevel=2)
        if execution.problem is not None:
            raise execution.problem
        if trace.status == RunStatus.COMPLETED:
            _check_end(execution, trace)
        if isinstance(execution.finish, Completed):
            return cast(T, codec.decode(execution.finish.output, definition.function.result_type, what="the result"))
        return None
    finally:
        execution.close()


def _check_end(execution: Execution, trace: Trace[Any]) -> None:
    """A run that completed must complete with today's code."""
    if isinstance(execution.finish, Failed):
        raise Divergence(
            f"the recorded run of {trace.name} completed, and the code now fails with {execution.finish.failure}"
        ) from execution.error
    for leaf in execution.outstanding():
        where = location(leaf.branch.author)
        raise Divergence(
            f"the recorded run of {trace.name} completed after {len(trace.items)} entries, and the code now goes on",
            diff=f"  -  the end    (recorded)\n  +  {leaf.command!r} as {leaf.key!r} at {where}    (the code now)",
            location=where,
        )


def _end(trace: Trace[Any]) -> datetime:
    times = [entry.recorded_at for entry in trace.items if entry.recorded_at is not None]
    return max(times, default=BEGINNING)


def _uuid(run_id: str | None) -> UUID:
    try:
        return UUID(run_id or "")
    except ValueError:
        return UUID(int=0)
