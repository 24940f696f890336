"""Commands about dynamic cron schedules: Schedule makes or replaces one, Unschedule removes one.

They never compute a tick. The invariant: an expression or zone that cannot be read is refused where it is written.
"""

from __future__ import annotations

import re
from typing import Any

import attrs

from flowgen.core.commands.command import NO_OPTIONS, Command, set_field
from flowgen.core.cron import CronSpec
from flowgen.core.definitions import Call, Definition
from flowgen.core.names import check_name
from flowgen.core.options import CommandOptions
from flowgen.errors import DefinitionError

__all__ = ["Schedule", "Unschedule"]

_OF_CODE = re.compile(r"cron(-[0-9]+)?")


def _dynamic(name: str) -> str:
    """The name of a dynamic schedule. Raises DefinitionError for one that `cron=` of a definition gives."""
    if _OF_CODE.fullmatch(check_name(name, "the name of a schedule")):
        raise DefinitionError(
            f"the name of a schedule is {name!r}: so are those called that code declares with cron=; give another"
        )
    return name


@attrs.frozen(init=False, eq=False, repr=False)
class Schedule(Command[None]):
    """Create or replace a dynamic cron schedule `name` of a definition; survives restarts and deploys."""

    call: Call[Any]
    name: str
    cron: str
    timezone: str
    options: CommandOptions
    kind = "schedule"

    def __init__(self, call: Call[Any], name: str, /, *, cron: str, timezone: str = "UTC") -> None:
        if not isinstance(call, Call):
            raise DefinitionError(f"Schedule takes a call, such as report.call(user), not {call!r}")
        told = [name for name in ("id", "delay", "at") if getattr(call.options, name) is not None]
        if told:
            raise DefinitionError(f"Schedule({call.name}): each tick makes a run of its own, {told[0]}= does not fit")
        CronSpec.parse(cron, timezone)
        set_field(self, "call", call)
        set_field(self, "name", _dynamic(name))
        set_field(self, "cron", cron)
        set_field(self, "timezone", timezone)
        set_field(self, "options", NO_OPTIONS)

    @property
    def target(self) -> str:
        return self.call.name

    @property
    def arguments(self) -> object:
        return [self.name, self.cron, self.timezone, dict(self.call.arguments)]

    @property
    def default_name(self) -> str:
        return f"schedule:{self.name}"

    def _shown(self) -> list[str]:
        return [self.call.name, repr(self.name), f"cron={self.cron!r}", f"timezone={self.timezone!r}"]


@attrs.frozen(init=False, eq=False, repr=False)
class Unschedule(Command[None]):
    """Remove a dynamic schedule of a definition; nothing happens when there is none."""

    definition: Definition[..., Any, Any] | str
    name: str
    options: CommandOptions
    kind = "unschedule"
    stores = False

    def __init__(self, definition: Definition[..., Any, Any] | str, name: str, /) -> None:
        if not isinstance(definition, Definition | str):
            raise DefinitionError(f"Unschedule takes a definition or its name, not {definition!r}")
        set_field(
            self,
            "definition",
            definition if isinstance(definition, Definition) else check_name(definition, "a definition"),
        )
        set_field(self, "name", _dynamic(name))
        set_field(self, "options", NO_OPTIONS)

    @property
    def target(self) -> str:
        return self.definition if isinstance(self.definition, str) else self.definition.name

    @property
    def arguments(self) -> object:
        return self.name

    @property
    def default_name(self) -> str:
        return f"unschedule:{self.name}"

    def _shown(self) -> list[str]:
        return [self.target, repr(self.name)]
