"""What a commit of a run does beside its entries, as the one JSON parameter of the function `carry_out`.

    effects_json(effects) -> str                   of a flush: each with the run that asks for it

The invariant: an event's payload travels as text inside of the JSON, so that the store keeps its very characters.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any, TypeAlias, assert_never
from uuid import UUID

import attrs

__all__ = ["Effect", "Emission", "Listening", "Quitting", "Unwanted", "effects_json", "emission"]


@attrs.frozen(kw_only=True)
class Emission:
    """An event to insert, with what it triggers. `event_id` is made by the caller."""

    event_id: UUID
    name: str
    payload: str
    """JSON text."""
    input: str
    """JSON text: the input of the runs that it starts."""
    key: str = ""
    """Of the command that emits it."""
    correlation_id: str | None = None


@attrs.frozen(kw_only=True)
class Listening:
    """A wait for an event to register; one that is registered in the same way stays as it is."""

    key: str
    name: str
    fingerprint: str
    filter: str | None
    """JSON text; see `flowgen.core.filters`."""
    after: datetime | None
    """Events have their place behind this one; None: they are emitted after the run was started."""


@attrs.frozen
class Quitting:
    """A wait for an event that is over: its registration and the messages under its key go."""

    key: str


@attrs.frozen
class Unwanted:
    """A live child that is to be cancelled, which it could not be yet: the care of any worker does it."""

    run_id: UUID


Effect: TypeAlias = Emission | Listening | Quitting | Unwanted
"""What else a commit of a run does to the store."""


def effects_json(effects: Iterable[tuple[UUID, Effect]]) -> str:
    """The parameter; the effects of each run keep their order."""
    emits: list[Any] = []
    listens: list[Any] = []
    quits: list[Any] = []
    unwanted: list[Any] = []
    for run_id, effect in effects:
        match effect:
            case Emission():
                emits.append({"run": str(run_id), **emission(effect)})
            case Listening():
                listens.append(
                    {
                        "run": str(run_id),
                        "key": effect.key,
                        "name": effect.name,
                        "fingerprint": effect.fingerprint,
                        "filter": effect.filter,
                        "after": None if effect.after is None else effect.after.isoformat(),
                    }
                )
            case Quitting():
                quits.append({"run": str(run_id), "key": effect.key})
            case Unwanted():
                unwanted.append({"run": str(run_id), "child": str(effect.run_id)})
            case _:
                assert_never(effect)
    parts = {"emits": emits, "listens": listens, "quits": quits, "unwanted": unwanted}
    return json.dumps(parts, ensure_ascii=False)


def emission(event: Emission) -> dict[str, Any]:
    """One event to insert."""
    return {
        "event_id": str(event.event_id),
        "name": event.name,
        "payload": event.payload,
        "input": event.input,
        "correlation": event.correlation_id,
    }
