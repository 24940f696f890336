"""What the tests of the interpreter share: runs on a bench, answered entry by entry, and their replays."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from flowgen.core.decision import Decision, Raised, Returned
from flowgen.core.definitions import DefinitionOptions, Task, Workflow
from flowgen.core.entries import Entry, EntryKind, Message, MessageKind, OutcomeKind
from flowgen.core.history import History
from flowgen.core.interpreter import Execution
from flowgen.core.retry import Retry
from flowgen.testing.bench import Bench

NO_RETRY = Retry(1)

opened: list[Bench | Execution] = []
"""To be closed when the test ends."""


def workflow(fn: Callable[..., Any], name: str | None = None, **options: Any) -> Workflow[Any, Any, Any]:
    return Workflow(fn, name, DefinitionOptions(retry=options.pop("retry", NO_RETRY), **options))


def task(fn: Callable[..., Any], name: str | None = None, **options: Any) -> Task[Any, Any, Any]:
    return Task(fn, name, DefinitionOptions(retry=options.pop("retry", NO_RETRY), **options))


def begun(fn: Any, *, services: Any = None, log: Any = None, **arguments: Any) -> Bench:
    """A run that has gone as far as it can by itself."""
    definition = fn if isinstance(fn, Workflow | Task) else workflow(fn)
    bench = Bench(definition=definition, input=json.dumps(arguments), services=services)
    opened.append(bench)
    if log is not None:
        bench.log = log
        bench.restart()
    bench.go()
    return bench


def gives(bench: Bench, key: str, value: Any) -> None:
    bench.settle(key, Returned(value))


def fails(bench: Bench, key: str, error: BaseException) -> None:
    bench.settle(key, Raised(error))


def over(bench: Bench, *, definition: Any = None, items: list[Entry] | None = None, **options: Any) -> Execution:
    """A new execution over what is recorded, of the same definition or another."""
    history = History.of(bench.items if items is None else items, base=bench.base, prologue=bench.prologue)
    execution = Execution(
        definition or bench.definition,
        bench.execution.facts,
        bench.input,
        history,
        entropy=lambda size: bytes(size),
        created_at=bench.items[0].recorded_at if bench.items else bench.now,
        **options,
    )
    opened.append(execution)
    return execution


def replayed(bench: Bench, **options: Any) -> tuple[Execution, Decision]:
    execution = over(bench, **options)
    return execution, execution.advance(bench.now)


def keys(bench: Bench) -> list[str]:
    """Of the outcomes, in order."""
    return [entry.key for entry in bench.items if entry.kind == EntryKind.OUTCOME]


def kinds(bench: Bench) -> list[str]:
    return [EntryKind(entry.kind).name for entry in bench.items]


def statuses(bench: Bench) -> dict[str, str]:
    outcomes = [entry for entry in bench.items if entry.kind == EntryKind.OUTCOME]
    return {entry.key: OutcomeKind(entry.status or 0).name for entry in outcomes}


def result(bench: Bench) -> Any:
    assert bench.output is not None, bench.finish
    return json.loads(bench.output)


def order(kind: MessageKind, **payload: Any) -> Message:
    return Message(900 + len(payload), kind, "", json.dumps(payload))
