"""From calls to runs: what a start sends, and what it makes of runs that exist already.

The invariant: a UUID is made (or derived from the author's id) before anything is sent, so a start whose answer was
lost can be sent again; an id that exists attaches only to the same definition with an equal input. The input of a run
that went on as new is, for this, that of its first pass.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from itertools import count
from typing import Any, Final
from uuid import UUID

import attrs

from flowgen.app import App
from flowgen.client.clock import new_uuid, new_uuids
from flowgen.client.plans import Plan, ask
from flowgen.client.runs import Reading
from flowgen.client.sealing import opened_row, sealed_runs
from flowgen.core import codec
from flowgen.core.definitions import Call, Definition
from flowgen.core.ids import uuid_of_id
from flowgen.core.inputs import equal_inputs
from flowgen.core.sealing import Seal, words
from flowgen.core.settings import Settings
from flowgen.core.states import RunKind, Status
from flowgen.errors import DefinitionError, RunExists
from flowgen.postgres import runs
from flowgen.postgres.database import Begin, Commit, Op
from flowgen.postgres.rows import NewRun, RunRow

__all__ = ["Begun", "as_call", "new_runs", "start"]

_SHOWN: Final = 200

logger = logging.getLogger("flowgen")


def as_call(target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call[Any]:
    """What `start(target, *args, **kwargs)` means. Raises DefinitionError, TypeError for bad arguments."""
    if isinstance(target, Call):
        if args or kwargs:
            raise TypeError("a Call has its arguments already: start(checkout.call(...)) takes conn= and nothing else")
        return target  # pyright: ignore[reportUnknownVariableType]
    if isinstance(target, Definition):
        return target.call(*args, **kwargs)  # pyright: ignore[reportUnknownVariableType]
    if isinstance(target, str):
        raise DefinitionError(f"start by name with flowgen.call: start(flowgen.call({target!r}, ...))")
    shown = getattr(target, "__qualname__", None) or repr(target)
    raise DefinitionError(
        f"start takes a workflow, a task or a call of one, not {shown}: decorate it with @workflow or @task"
    )


def new_runs(calls: Iterable[Call[Any]], settings: Settings, app: App) -> list[NewRun]:
    """The rows to insert. Raises DefinitionError, CodecError for arguments that cannot be stored."""
    given = [as_call(call, (), {}) for call in calls]
    schema = settings.schema
    made = [new_uuid()] if len(given) == 1 else new_uuids(len(given))
    return [
        _new_run(call, made[at] if call.options.id is None else uuid_of_id(schema, call.options.id), settings, app)
        for at, call in enumerate(given)
    ]


def _new_run(call: Call[Any], run_id: UUID, settings: Settings, app: App) -> NewRun:
    definition, options = call.definition, call.options
    arguments = call.arguments
    if definition is None:
        definition = app.definitions.get(call.name)
        if definition is not None:
            arguments = definition.function.binder.bind((), dict(call.arguments))
    kind, queue, priority, deadline = RunKind.WORKFLOW, "default", 0, None
    if definition is None:
        text = codec.encode(dict(arguments), what=f"the input of {call.name}")
    else:
        text = definition.function.binder.encode_arguments(arguments, what=call.name)
        kind, queue, priority = definition.kind, definition.options.queue, definition.options.priority
        deadline = definition.options.deadline
    what = f"the input of {call.name}"
    if codec.check_size(text, what=what, limit=settings.max_payload):
        logger.warning("%s", codec.size_warning(text, what))
    return NewRun(
        run_id=run_id,
        id=options.id,
        name=call.name,
        kind=kind.value,
        queue=queue if options.queue is None else options.queue,
        priority=priority if options.priority is None else options.priority,
        input=text,
        delay=options.delay,
        at=options.at,
        deadline=deadline if options.deadline is None else options.deadline,
        tags=options.tags,
        correlation_id=options.correlation_id,
    )


@attrs.frozen
class Begun:
    """What a start came to."""

    runs: list[tuple[Reading, bool]]
    """Each run as it is now, and whether it existed."""
    tell: bool
    """An idle worker wants to know of it."""


def start(rows: Sequence[NewRun], *, own: bool, seal: Seal | None = None) -> Plan[Begun]:
    """Insert the runs. `own`: on a connection of the client, where all or none are started. Raises RunExists."""
    if not rows:
        return Begun([], False)
    tries = count()
    stored = sealed_runs(seal, rows)

    def begin() -> Op[Begun]:
        return _start(rows, stored, seal, atomic=own and len(rows) > 1, again=next(tries) > 0)

    return (yield from ask(begin, again=own))


def _start(
    rows: Sequence[NewRun], stored: Sequence[NewRun], seal: Seal | None, *, atomic: bool, again: bool
) -> Op[Begun]:
    atomic = atomic and any(row.id is not None for row in rows)
    if atomic:
        yield Begin()
    started = yield from runs.start(stored, again=again)
    created = set(started.created)
    result: list[tuple[Reading, bool]] = []
    for row in rows:
        if row.id is None or row.run_id in created:
            created.discard(row.run_id)
            result.append((partial(_new, row, started.now), False))
        else:
            found = started.existing[row.run_id]
            _check_same(found, row, seal)
            result.append((opened_row(seal, found), True))
    if atomic:
        yield Commit()
    return Begun(result, started.idle and not all(existed for _, existed in result))


def _check_same(existing: RunRow, row: NewRun, seal: Seal | None) -> None:
    given = existing.input if existing.first_input is None else existing.first_input
    given = given if seal is None else seal.readable(given) or given
    if existing.name != row.name or not equal_inputs(given, row.input):
        of_pass = "" if existing.first_input is None else " of its first pass"
        raise RunExists(
            f"the run {row.id!r} exists: it is {_shown(existing.name, given)}{of_pass}, and "
            f"{_shown(row.name, row.input)} was to be started. Give the new run another id, or start the same call"
        )


def _shown(name: str, text: str) -> str:
    text = words(text) or text
    return f"{name} with the input {text if len(text) <= _SHOWN else text[: _SHOWN - 3] + '...'}"


def _new(row: NewRun, now: datetime) -> RunRow:
    """What the insert wrote, without reading it back."""
    deadline = None if row.deadline is None else now + row.deadline
    wake = row.at if row.at is not None else now if row.delay is None else now + row.delay
    later = wake > now
    due_at = now if not later else wake if deadline is None else min(wake, deadline)
    return RunRow(
        run_id=row.run_id,
        id=row.id,
        name=row.name,
        kind=row.kind,
        status=Status.DELAYED if later else Status.READY,
        queue=row.queue,
        priority=row.priority,
        input=row.input,
        output=None,
        error=None,
        attempt=1,
        recoveries=0,
        parent_id=None,
        root_id=row.run_id,
        correlation_id=row.correlation_id,
        parent_correlation_id=None,
        tags=row.tags,
        trigger=row.trigger,
        progress=None,
        progress_at=None,
        reports=None,
        created_at=now,
        started_at=None,
        finished_at=None,
        due_at=due_at,
        deadline=deadline,
        owner=None,
        request=0,
        mail=0,
    )
