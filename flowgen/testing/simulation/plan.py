"""What is simulated: a call, what its functions and children come to, and what may go wrong.

Made once; every schedule of it starts from here. It never changes but for the definitions that turn up as children.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import attrs

from flowgen.app import app
from flowgen.core.definitions import Definition
from flowgen.core.settings import Settings
from flowgen.postgres.rows import NewRun
from flowgen.testing.bench import BEGINNING, TEST_UUID

__all__ = ["Plan"]

_SETTINGS: Final = Settings(cache=100, max_recoveries=100)
"""No run is poison: whatever goes wrong here is the schedule's doing."""


@attrs.define(eq=False, kw_only=True)
class Plan:
    """See `flowgen.testing.simulate`, whose arguments these are."""

    definition: Definition[..., Any, Any]
    input: str
    id: str | None = None
    delay: Any = None
    deadline: Any = None
    outcomes: Mapping[Any, object] = attrs.field(factory=dict[Any, object])
    workers: int = 3
    crashes: bool = True
    cancels: bool = False
    services: Callable[[], Any] = lambda: None
    """Makes what `ctx.services` gives, for each time that a handler starts."""
    now: datetime = BEGINNING
    seed: int = 0
    settings: Settings = _SETTINGS
    definitions: dict[str, Definition[..., Any, Any]] = attrs.field(factory=dict[str, Definition[..., Any, Any]])

    def __attrs_post_init__(self) -> None:
        self.definitions.setdefault(self.definition.name, self.definition)

    def met(self, definition: Definition[..., Any, Any] | str) -> None:
        """A child of this definition was started. Raises AssertionError for one that nothing here knows."""
        if isinstance(definition, Definition):
            self.definitions.setdefault(definition.name, definition)
        elif definition not in self.definitions:
            found = app.definitions.get(definition)
            if found is None:
                raise AssertionError(
                    f"{self.definition.name} starts {definition!r} by name, and no definition of this name is known "
                    "here: import the module that defines it, or give outcomes={...} a result for it"
                )
            self.definitions[definition] = found

    def start(self) -> NewRun:
        """The run that everything begins with."""
        options = self.definition.options
        return NewRun(
            run_id=TEST_UUID if self.id is None else UUID(int=TEST_UUID.int + 1),
            id=self.id,
            name=self.definition.name,
            kind=self.definition.kind,
            queue=options.queue,
            priority=options.priority,
            input=self.input,
            delay=self.delay,
            deadline=self.deadline if self.deadline is not None else options.deadline,
        )
