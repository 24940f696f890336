"""What a commit of a run does beside its entries, as the one JSON parameter of the function `carry_out`.

    effects_json(effects) -> str                   of a flush: each with the run that asks for it

The invariant: an event's payload travels as text inside of the JSON, so that the store keeps its very characters.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, assert_never
from uuid import UUID

from flowgen.postgres.rows import Effect, Emission, Listening, Quitting

__all__ = ["effects_json", "emission"]


def effects_json(effects: Iterable[tuple[UUID, Effect]]) -> str:
    """The parameter; the effects of each run keep their order."""
    emits: list[Any] = []
    listens: list[Any] = []
    quits: list[Any] = []
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
            case _:
                assert_never(effect)
    return json.dumps({"emits": emits, "listens": listens, "quits": quits}, ensure_ascii=False)


def emission(event: Emission) -> dict[str, Any]:
    """One event to insert."""
    return {
        "event_id": str(event.event_id),
        "name": event.name,
        "payload": event.payload,
        "input": event.input,
        "correlation": event.correlation_id,
    }
