"""Commands about events: Emit tells whoever waits or is triggered, WaitEvent waits for the next one that fits.

They never reach anybody themselves. The invariant: a filter is data that was checked where it is written.
"""

from __future__ import annotations

import json
from typing import Any

import attrs

from flowgen.core.commands.command import NO_OPTIONS, Command, set_field
from flowgen.core.durations import Duration, as_timedelta
from flowgen.core.filters import Filter, filter_text
from flowgen.core.names import check_name
from flowgen.core.options import CommandOptions, WaitOptions

__all__ = ["Emit", "WaitEvent"]


@attrs.frozen(init=False, eq=False, repr=False)
class Emit(Command[str]):
    """Emit the event `name` with a payload, in the commit of its own outcome, which is the event's id."""

    name: str
    payload: Any
    options: CommandOptions
    kind = "emit"

    def __init__(self, name: str, payload: Any = None, /) -> None:
        set_field(self, "name", check_name(name, "the name of an event"))
        set_field(self, "payload", payload)
        set_field(self, "options", NO_OPTIONS)

    @property
    def target(self) -> str:
        return self.name

    @property
    def arguments(self) -> object:
        return self.payload

    @property
    def default_name(self) -> str:
        return f"emit:{self.name}"

    def _shown(self) -> list[str]:
        return [repr(self.name), repr(self.payload)]


@attrs.frozen(init=False, eq=False, repr=False)
class WaitEvent(Command[Any]):
    """Wait for the next event `name` whose payload fits `where`; its outcome is the payload.

    An event counts from the beginning of the run on, and each once in waits that follow each other. Raises WaitTimedOut
    after `timeout`.
    """

    name: str
    filter: str | None
    """The stored form of `where`."""
    options: WaitOptions  # pyright: ignore[reportIncompatibleVariableOverride] - frozen
    kind = "event"
    stores = False
    listens = True

    def __init__(self, name: str, where: Filter | None = None, timeout: Duration | None = None) -> None:
        set_field(self, "name", check_name(name, "the name of an event"))
        set_field(self, "filter", filter_text(where, f"WaitEvent({self.name!r}, where=)"))
        lasts = None if timeout is None else as_timedelta(timeout, what="timeout", positive=True)
        set_field(self, "options", WaitOptions(timeout=lasts))

    @property
    def target(self) -> str:
        return self.name

    @property
    def arguments(self) -> object:
        return None if self.filter is None else json.loads(self.filter)

    def _shown(self) -> list[str]:
        shown = [repr(self.name)]
        if self.filter is not None:
            where: dict[str, Any] = {}
            for path, operator, value in json.loads(self.filter):
                where.setdefault(".".join(path), {})[operator] = value
            shown.append(f"where={where!r}")
        return shown
