"""What a context is made of: what is fixed while a handler or a step runs, and what moves.

Plain values; `flowgen.core.context` gives them their names for users.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

import attrs

from flowgen.core.codec import SIZE_LIMIT
from flowgen.core.ports import UNABORTED, LogPort, Signal, TaskPort, no_log, no_report

__all__ = ["CALLED", "RunFacts", "Saved", "StepFacts", "Trigger", "View"]


@attrs.frozen(kw_only=True)
class Trigger:
    """What started a run. `kind` is call, invoke, cron, event or sql."""

    kind: str = "call"
    name: str | None = None
    scheduled_at: datetime | None = None
    payload: Any = None


CALLED = Trigger()
_NONE: Mapping[str, Any] = MappingProxyType({})


@attrs.frozen
class Saved:
    """What the last Checkpoint with data saved."""

    cursor: Any = None
    items_processed: int = 0
    accumulated_results: Any = None
    heard: Mapping[str, str] = _NONE
    """The places of the events that answered the waits so far, by their fingerprints; ISO 8601."""
    lost: Sequence[str] = ()
    """Keys that the author named, of commands that were cut off; an outcome that they came to is not kept."""


@attrs.define(kw_only=True)
class RunFacts:
    """What is fixed while a handler runs."""

    run_id: str | None
    """The caller's id; None: it has no other than its UUID."""
    uuid: UUID
    name: str = ""
    attempt: int = 1
    max_attempts: int = 1
    resumed: bool = False
    correlation_id: str | None = None
    parent_correlation_id: str | None = None
    trigger: Trigger = CALLED
    input: Mapping[str, Any] = _NONE
    config: Mapping[str, Any] = _NONE
    definition: Any = None
    """Whose run it is: a `Definition`."""
    since: int = 0
    """Index from which on entries are of this pass, when the run went on as new."""
    services: Any = None
    schema: str = "flowgen"
    depth: int = 0
    """Runs above it that go on when it ends; a detached child has none."""
    lineage: Sequence[str] = ()
    """Names of the nearest of them, outermost first, as far as it stands near the greatest depth."""
    max_payload: int = SIZE_LIMIT
    """Bytes of JSON that one value may have."""
    discreet: bool = False
    """Warnings show no values: a codec keeps them secret."""
    secret: bytes = attrs.field(default=b"", repr=False)
    """Of the schema: what completion tokens are signed with."""
    log: LogPort = no_log

    def shown(self, command: object) -> str:
        """A command for a warning, which is logged."""
        return f"{type(command).__name__}(...)" if self.discreet else repr(command)


@attrs.define(kw_only=True)
class View:
    """What moves while a handler runs; the interpreter keeps it."""

    now: datetime | None = None
    next_sequence: int = 0
    saved: Saved | None = None
    results: MutableMapping[str, str] = attrs.field(factory=dict[str, str])
    """JSON text of the values that were delivered, by key."""
    replaying: bool = False
    yields: int = 0
    """How many commands were yielded to this execution, in all branches: whoever watches it sees that it goes on."""
    checkpoint_was_read: Callable[[], None] = lambda: None


@attrs.frozen(kw_only=True)
class StepFacts:
    """What is fixed for one call of a step's function."""

    key: str
    attempt: int = 1
    max_attempts: int = 1
    config: Mapping[str, Any] = _NONE
    results: Mapping[str, str] | None = None
    """JSON text of the results that it may read, by key; None: of all that are known."""
    signal: Signal = attrs.field(default=UNABORTED)
    report: TaskPort = no_report
