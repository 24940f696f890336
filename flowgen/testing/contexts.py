"""`context`: what a handler or a task's function would be given, for plain calls of it in a test."""

from __future__ import annotations

from collections.abc import Mapping, MutableSequence
from datetime import datetime
from typing import Any

from flowgen.core import codec
from flowgen.core.context import RunFacts, Saved, StepContext, StepFacts, Trigger, View
from flowgen.core.definitions import Definition
from flowgen.core.ports import UNABORTED
from flowgen.errors import Cancelled
from flowgen.testing.bench import TEST_UUID

__all__ = ["context"]


def context(
    *,
    input: Mapping[str, Any] | None = None,
    config: Mapping[str, Any] | None = None,
    checkpoint: Mapping[str, Any] | None = None,
    results: Mapping[Any, Any] | None = None,
    attempt: int = 1,
    max_attempts: int = 3,
    services: Any = None,
    run_id: str = "test",
    correlation_id: str | None = None,
    trigger: Trigger | None = None,
    now: datetime | None = None,
    aborted: str | None = None,
    step: str = "step",
    reports: MutableSequence[Mapping[str, Any]] | None = None,
) -> StepContext[Any]:
    """A context for a plain call: `charge.fn(context(attempt=2), "o-1")`. It fits a handler's `Context` too.

    `input` is by parameter name; `checkpoint` has `cursor`, `items_processed` and `accumulated_results`; `results` are
    those of earlier steps, by name, task or function. `aborted` is the reason for which the signal is set; `reports`
    collects what `heartbeat` and `progress` say. Raises CodecError for results that cannot be stored.
    """
    named = {_name(key): value for key, value in (results or {}).items()}
    stored = {name: codec.encode(value, what=f"the result of {name}") for name, value in named.items()}
    saved = None if checkpoint is None else Saved(**{"cursor": None, **checkpoint})
    return StepContext(
        RunFacts(
            run_id=run_id,
            uuid=TEST_UUID,
            input=dict(input or {}),
            config=dict(config or {}),
            services=services,
            correlation_id=correlation_id,
            trigger=trigger or Trigger(),
        ),
        View(now=now, saved=saved, results=stored),
        StepFacts(
            key=step,
            attempt=attempt,
            max_attempts=max_attempts,
            signal=UNABORTED if aborted is None else _Aborted(aborted),
            report=(lambda report: None) if reports is None else reports.append,
        ),
    )


class _Aborted:
    """A signal that is set from the start."""

    aborted = True

    def __init__(self, reason: str) -> None:
        self.reason: str | None = reason

    def wait(self, timeout: float | None = None) -> bool:
        return True

    def raise_if_aborted(self) -> None:
        raise Cancelled(self.reason)


def _name(key: Any) -> str:
    if isinstance(key, str):
        return key
    return key.name if isinstance(key, Definition) else str(key.__name__)
